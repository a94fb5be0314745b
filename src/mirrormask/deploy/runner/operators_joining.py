"""Torch's operators that put tensors side by side, or zeros around them."""

from __future__ import annotations

from typing import Any

from torch import fx

from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.storage import View
from mirrormask.deploy.runner.translator import Translator, handles


@handles("cat", "concat", "concatenate")
def _cat(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    shape = tuple(node.meta["val"].shape)
    views = [t.view(tensor) for tensor in a["tensors"]]
    axis = a["dim"] % len(shape)
    if axis == 0 or not 2 <= len(shape) <= 4:
        raise UnsupportedError("tensors side by side along the batch, or of other than 2 to 4 dims")
    begins = [sum(view.shape[axis] for view in views[:index]) for index in range(len(views))]
    return t.builder.mover.join(views, axis, begins, shape)


@handles("pad", "constant_pad_nd")
def _pad(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    view = t.view(a["self"])
    rank = len(view.shape)
    if a.get("mode", "constant") != "constant" or a["value"] not in (None, 0):
        raise UnsupportedError("padding with other than zeros")
    # Pairs of what comes before and behind, the last dimension first.
    pairs = list(zip(a["pad"][::2], a["pad"][1::2], strict=True))
    for index, (before, behind) in enumerate(pairs):
        axis = rank - 1 - index
        if min(before, behind) < 0 or axis == 0 or rank > 4:
            raise UnsupportedError("padding of the batch, or less than none")
        if before or behind:
            size = view.shape[axis] + before + behind
            shape = (*view.shape[:axis], size, *view.shape[axis + 1 :])
            view = t.builder.mover.join([view], axis, [before], shape)
    return view
