"""From torch's operators to the layers of a network, one function for each kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from mirrormask.deploy.runner.fusing import Fuser
from mirrormask.deploy.runner.graph import ModelProgram, arguments_of_node, array_of
from mirrormask.deploy.runner.layers import Builder
from mirrormask.deploy.runner.operations import Array, Move, Network, Taps
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.storage import Port, View, port_view
from mirrormask.deploy.runner.views import IMAGES, Dimensions, reshaped, whole
from mirrormask.runtime import steps

Handler = Callable[["Translator", fx.Node, dict[str, Any]], View]
_HANDLERS: dict[str, Handler] = {}
# Each of these gives its first argument back, at inference and in another layout at most.
_IDENTITIES = ("clone", "contiguous", "dropout", "alias", "detach", "to", "feature_dropout", "lift")


def _handles(*names: str) -> Callable[[Handler], Handler]:
    def register(function: Handler) -> Handler:
        for name in names:
            _HANDLERS[name] = function
        return function

    return register


def translate(program: ModelProgram, batch: int) -> Network:
    """Return the network that an exported model is.

    Raises:
        UnsupportedError: Something in it has no step.
    """
    return Translator(program).run(batch)


class Translator:
    """The state of one translation: what tensor each node stands for."""

    def __init__(self, program: ModelProgram) -> None:
        self.program, self.builder = program, Builder()
        self.views: dict[fx.Node, View] = {}
        self.fuser = Fuser(self.builder, self.views)

    def run(self, batch: int) -> Network:
        """Translate node by node, then copy the results out."""
        network = self.builder.network
        for node in self.program.inputs:
            shape = tuple(node.meta["val"].shape)
            if shape[0] != batch:
                raise UnsupportedError("inputs of different batch sizes")
            port = Port(name=node.name, shape=shape, space=1 + len(network.inputs))
            network.inputs.append(port)
            self.views[node] = port_view(port)
        for node in self.program.nodes:
            name = str(node.target).split(".")[1]
            handler = _HANDLERS.get(name)
            if handler is None or not str(node.target).startswith("aten."):
                raise UnsupportedError(f"the operator {name}")
            view = handler(self, node, arguments_of_node(node))
            if view.shape != tuple(node.meta["val"].shape):
                raise UnsupportedError(f"{name} with these arguments")
            self.views[node] = view
        for index, node in enumerate(self.program.outputs):
            view = self.views[node]
            if not view.shape or view.shape[0] != batch or not _begins_with_images(view, batch):
                raise UnsupportedError("outputs whose first dimension is not the batch")
            space = 1 + len(network.inputs) + index
            port = Port(name=f"output{index}", shape=view.shape, space=space)
            targets = tuple(_row_major(dim, axis) for axis, dim in enumerate(view.dims))
            network.outputs.append(port)
            network.operations.append(
                Move(label="copy out", out=port, source=view, targets=targets)
            )
        return network

    def view(self, node: Any) -> View:
        """Return the tensor that a node stands for."""
        if node not in self.views:
            raise UnsupportedError("constants among the activations")
        return self.views[node]

    def array(self, node: Any) -> Array | None:
        """Return the weight that a node stands for, or None for None."""
        if node is None:
            return None
        if not isinstance(node, fx.Node) or node.name not in self.program.constants:
            raise UnsupportedError("weights that are computed")
        return array_of(self.program.constants[node.name])


def _row_major(dim: Sequence[Any], axis: int) -> tuple[Any, ...]:
    found, step = [], math.prod(atom.size for atom in dim)
    for atom in dim:
        step //= atom.size
        found.append(type(atom)(axis, atom.size, step))
    return tuple(found)


def _begins_with_images(view: View, batch: int) -> bool:
    # Parts of a batch follow each other in an output only if the batch is what comes first.
    if batch == 1:
        return True
    return view.dims[0] == whole(IMAGES, batch)


@_handles("conv1d", "conv2d")
def _convolution(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    weight = t.array(a["weight"])
    assert weight is not None
    if isinstance(a["padding"], str):
        raise UnsupportedError("padding by name")
    flat = weight.ndim == 3
    taps = Taps(
        kernel=_pair(weight.shape[2:], flat, 1),
        stride=_pair(a["stride"], flat, 1),
        pad=_pair(a["padding"], flat, 0),
        dilation=_pair(a["dilation"], flat, 1),
    )
    return t.builder.convolution(
        t.view(a["input"]),
        weight,
        t.array(a["bias"]),
        taps=taps,
        groups=a["groups"],
        label=node.name,
    )


@_handles("linear")
def _linear(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    weight = t.array(a["weight"])
    assert weight is not None
    return t.builder.linear(t.view(a["input"]), weight, t.array(a["bias"]), label=node.name)


@_handles("batch_norm")
def _batch_norm(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    mean, variance = t.array(a["running_mean"]), t.array(a["running_var"])
    if a["training"] or mean is None or variance is None:
        raise UnsupportedError("BatchNorm without running statistics")
    factor = 1.0 / np.sqrt(variance.astype(np.float64) + a["eps"])
    weight, bias = t.array(a["weight"]), t.array(a["bias"])
    if weight is not None:
        factor *= weight
    shift = (0.0 if bias is None else bias) - factor * mean
    view = t.view(a["input"])
    if t.fuser.scale(node.args[0], view, factor, shift):
        return view
    return t.builder.scale(
        view, factor.astype(np.float32), shift.astype(np.float32), label=node.name
    )


@_handles("relu", "relu_")
def _relu(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    view = t.view(a["self"])
    if t.fuser.relu(node.args[0], view):
        return view
    return t.builder.pointwise(view, None, steps.RELU, label=node.name)


@_handles("gelu", "silu", "silu_")
def _activation(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    what = steps.SILU
    if node.name.startswith("gelu"):
        what = steps.GELU if a["approximate"] == "none" else steps.GELU_TANH
    return t.builder.pointwise(t.view(a["self"]), None, what, label=node.name)


@_handles("add", "add_")
def _add(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    left, right = _operands(t, a)
    fused = t.fuser.add((a["self"], left), (a["other"], right))
    return fused or t.builder.pointwise(left, right, steps.ADD, label=node.name)


@_handles("sub")
def _subtract(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    return t.builder.pointwise(*_operands(t, a), steps.SUBTRACT, label=node.name)


@_handles("mul", "mul_")
def _multiply(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    return t.builder.pointwise(*_operands(t, a), steps.MULTIPLY, label=node.name)


def _operands(t: Translator, a: dict[str, Any]) -> tuple[View, View]:
    if a.get("alpha") not in (None, 1) or not isinstance(a["other"], fx.Node):
        raise UnsupportedError("sums and products with numbers")
    left, right = t.view(a["self"]), t.view(a["other"])
    if left.shape != right.shape:
        raise UnsupportedError("sums and products of different shapes")
    return left, right


@_handles("max_pool2d", "max_pool1d")
def _max_pool(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    return _pool(t, node, a, steps.POOL_MAX, a["dilation"])


@_handles("avg_pool2d", "avg_pool1d")
def _mean_pool(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    if a.get("divisor_override") is not None or (a["ceil_mode"] and a["count_include_pad"]):
        raise UnsupportedError("an average over other than the window")
    what = steps.POOL_MEAN if a["count_include_pad"] else steps.POOL_MEAN_INSIDE
    return _pool(t, node, a, what, 1)


def _pool(t: Translator, node: fx.Node, a: dict[str, Any], what: int, dilation: Any) -> View:
    shape = node.meta["val"].shape
    flat = len(shape) == 3
    kernel = _pair(a["kernel_size"], flat, 1)
    taps = Taps(
        kernel=kernel,
        stride=_pair(a["stride"], flat, 1) if a["stride"] else kernel,
        pad=_pair(a["padding"], flat, 0),
        dilation=_pair(dilation, flat, 1),
    )
    return t.builder.pool(
        t.view(a.get("self") or a["input"]), taps, what, _pair(shape[2:], flat, 1), label=node.name
    )


@_handles("adaptive_avg_pool2d", "adaptive_avg_pool1d", "_adaptive_avg_pool2d")
def _adaptive(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    view, shape = t.view(a["self"]), node.meta["val"].shape
    flat = len(shape) == 3
    before, after = _pair(view.shape[2:], flat, 1), _pair(shape[2:], flat, 1)
    if before[0] % after[0] or before[1] % after[1]:
        raise UnsupportedError("adaptive pooling into windows of different sizes")
    window = before[0] // after[0], before[1] // after[1]
    taps = Taps(kernel=window, stride=window, pad=(0, 0), dilation=(1, 1))
    return t.builder.pool(view, taps, steps.POOL_MEAN, after, label=node.name)


@_handles("mean")
def _mean(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    view = t.view(a["self"])
    if a.get("dim") is None or a.get("dtype") is not None:
        raise UnsupportedError("a mean over everything")
    axes = sorted(axis % len(view.shape) for axis in _list(a["dim"]))
    return t.builder.mean(view, axes, keep=bool(a["keepdim"]), label=node.name)


@_handles("layer_norm")
def _layer_norm(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    if len(a["normalized_shape"]) != 1:
        raise UnsupportedError("LayerNorm over several dimensions")
    return t.builder.norm(
        t.view(a["input"]), t.array(a["weight"]), t.array(a["bias"]), a["eps"], label=node.name
    )


@_handles("scaled_dot_product_attention")
def _attention(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    if a["attn_mask"] is not None or a["enable_gqa"]:
        raise UnsupportedError("attention with a mask")
    q, k, v = (t.view(a[name]) for name in ("query", "key", "value"))
    scale = a["scale"] if a["scale"] is not None else 1.0 / math.sqrt(q.shape[-1])
    return t.builder.attention(q, k, v, scale=scale, causal=bool(a["is_causal"]), label=node.name)


@_handles("reshape", "view", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze")
def _reshape(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    view = t.view(a["self"])
    dims = reshaped(view.dims, tuple(node.meta["val"].shape))
    return View(storage=view.storage, dims=dims)


@_handles("transpose", "permute", "t")
def _permute(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    view = t.view(a["self"])
    rank = len(view.shape)
    order = [axis % rank for axis in a["dims"]] if "dims" in a else list(range(rank))
    if "dims" not in a:
        first, second = a.get("dim0", 0) % rank, a.get("dim1", 1) % rank
        order[first], order[second] = second, first
    dims: Dimensions = tuple(view.dims[axis] for axis in order)
    return View(storage=view.storage, dims=dims)


@_handles(*_IDENTITIES)
def _identity(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    if a.get("train") or node.meta["val"].dtype != torch.float32:
        raise UnsupportedError(f"{node.name} that changes values")
    return t.view(a.get("self") or a.get("input"))


def _list(value: Any) -> list[int]:
    return list(value) if isinstance(value, Sequence) else [value]


def _pair(value: Any, flat: bool, default: int) -> tuple[int, int]:  # noqa: FBT001
    """Return sizes along rows and columns; signals have one row."""
    found = [int(item) for item in _list(value)]
    if flat:
        return default, found[0]
    return (found[0], found[0]) if len(found) == 1 else (found[0], found[1])
