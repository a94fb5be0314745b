"""A factor and a summand for each channel: inside the product before, or a step of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import fx

from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.storage import Storage, View
from mirrormask.deploy.runner.translator import Translator
from mirrormask.deploy.runner.views import CHANNELS, whole

Numbers = npt.NDArray[np.float64]


def per_channel(
    t: Translator, node: fx.Node, tensor: Any, axis: int, factor: Numbers, shift: Numbers
) -> View:
    """Return ``tensor * factor + shift``, where these lie along one dimension of the tensor.

    Raises:
        UnsupportedError: The dimension is not what the channels of the tensor's buffer are.
    """
    if len(factor) == 1:
        return everywhere(t, node, tensor, factor.item(), shift.item())
    channels, view = whole(CHANNELS, len(factor)), t.view(tensor)
    if not isinstance(view.storage, Storage) or view.dims[axis] != channels:
        mover = t.builder.mover
        view = mover.as_image(view) if axis == 1 else mover.as_features(view)
    if view.dims[axis] != channels:
        raise UnsupportedError("numbers along a dimension that is not the channels")
    return _scaled(t, node, (tensor, view), factor, shift)


def everywhere(t: Translator, node: fx.Node, tensor: Any, factor: float, shift: float) -> View:
    """Return ``tensor * factor + shift`` with one number each."""
    view = t.builder.mover.in_planes(t.view(tensor))
    assert isinstance(view.storage, Storage)
    count = view.storage.sizes[CHANNELS]
    return _scaled(t, node, (tensor, view), np.full(count, factor), np.full(count, shift))


def _scaled(
    t: Translator, node: fx.Node, operand: tuple[Any, View], factor: Numbers, shift: Numbers
) -> View:
    tensor, view = operand
    if t.fuser.scale(tensor, view, factor, shift):
        return view
    return t.builder.scale(
        view, factor.astype(np.float32), shift.astype(np.float32), label=node.name
    )
