"""Torch's operators that give the same numbers in another shape: they cost no step."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.storage import View
from mirrormask.deploy.runner.translator import Translator, handles
from mirrormask.deploy.runner.views import Dimensions, reshaped

# Each of these gives its first argument back, at inference and in another layout at most.
_IDENTITIES = ("clone", "contiguous", "dropout", "alias", "detach", "to", "feature_dropout", "lift")


@handles("reshape", "view", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze")
def _reshape(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    view = t.view(a["self"])
    dims = reshaped(view.dims, tuple(node.meta["val"].shape))
    return View(storage=view.storage, dims=dims)


@handles("transpose", "permute", "t")
def _permute(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    view = t.view(a["self"])
    rank = len(view.shape)
    order = [axis % rank for axis in a["dims"]] if "dims" in a else list(range(rank))
    if "dims" not in a:
        first, second = a.get("dim0", 0) % rank, a.get("dim1", 1) % rank
        order[first], order[second] = second, first
    dims: Dimensions = tuple(view.dims[axis] for axis in order)
    return View(storage=view.storage, dims=dims)


@handles(*_IDENTITIES)
def _identity(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    if a.get("train") or node.meta["val"].dtype != torch.float32:
        raise UnsupportedError(f"{node.name} that changes values")
    return t.view(a.get("self") or a.get("input"))
