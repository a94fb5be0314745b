"""Torch's operators that take the largest value or the mean of windows."""

from __future__ import annotations

from typing import Any

from torch import fx

from mirrormask.deploy.runner.operations import Taps
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.storage import View
from mirrormask.deploy.runner.translator import Translator, handles, listed, pair
from mirrormask.runtime import steps


@handles("max_pool2d", "max_pool1d")
def _max_pool(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    return _pool(t, node, a, steps.POOL_MAX, a["dilation"])


@handles("avg_pool2d", "avg_pool1d")
def _mean_pool(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    if a.get("divisor_override") is not None or (a["ceil_mode"] and a["count_include_pad"]):
        raise UnsupportedError("an average over other than the window")
    what = steps.POOL_MEAN if a["count_include_pad"] else steps.POOL_MEAN_INSIDE
    return _pool(t, node, a, what, 1)


def _pool(t: Translator, node: fx.Node, a: dict[str, Any], what: int, dilation: Any) -> View:
    shape = node.meta["val"].shape
    flat = len(shape) == 3
    kernel = pair(a["kernel_size"], flat, 1)
    taps = Taps(
        kernel=kernel,
        stride=pair(a["stride"], flat, 1) if a["stride"] else kernel,
        pad=pair(a["padding"], flat, 0),
        dilation=pair(dilation, flat, 1),
    )
    return t.builder.pool(
        t.view(a.get("self") or a["input"]), taps, what, pair(shape[2:], flat, 1), label=node.name
    )


@handles("adaptive_avg_pool2d", "adaptive_avg_pool1d", "_adaptive_avg_pool2d")
def _adaptive(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    view, shape = t.view(a["self"]), node.meta["val"].shape
    flat = len(shape) == 3
    before, after = pair(view.shape[2:], flat, 1), pair(shape[2:], flat, 1)
    if before[0] % after[0] or before[1] % after[1]:
        raise UnsupportedError("adaptive pooling into windows of different sizes")
    window = before[0] // after[0], before[1] // after[1]
    taps = Taps(kernel=window, stride=window, pad=(0, 0), dilation=(1, 1))
    return t.builder.pool(view, taps, steps.POOL_MEAN, after, label=node.name)


@handles("mean")
def _mean(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    view = t.view(a["self"])
    if a.get("dim") is None or a.get("dtype") is not None:
        raise UnsupportedError("a mean over everything")
    axes = sorted(axis % len(view.shape) for axis in listed(a["dim"]))
    return t.builder.mean(view, axes, keep=bool(a["keepdim"]), label=node.name)
