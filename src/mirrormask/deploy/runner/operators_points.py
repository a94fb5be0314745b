"""Torch's operators that work on each number by itself: activations, sums, products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import fx

from mirrormask.deploy.runner.channels import Numbers, everywhere, per_channel
from mirrormask.deploy.runner.graph import operator_of
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.storage import View
from mirrormask.deploy.runner.translator import Translator, handles
from mirrormask.runtime import steps

_ACTIVATIONS = {
    "silu": steps.SILU,
    "hardswish": steps.HARDSWISH,
    "tanh": steps.TANH,
    "sigmoid": steps.SIGMOID,
    "hardsigmoid": steps.HARDSIGMOID,
}
_MOVE_ZERO = ("sigmoid", "hardsigmoid")


@handles("relu", "relu_")
def _relu(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    view = t.view(a["self"])
    if t.fuser.relu(node.args[0], view):
        return view
    return t.builder.activation(view, steps.RELU, label=node.name)


@handles("gelu")
def _gelu(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    what = steps.GELU if a["approximate"] == "none" else steps.GELU_TANH
    return t.builder.activation(t.view(a["self"]), what, label=node.name)


@handles(*_ACTIVATIONS, *(f"{name}_" for name in _ACTIVATIONS))
def _activation(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    name = operator_of(node).removesuffix("_")
    return t.builder.activation(
        t.view(a["self"]), _ACTIVATIONS[name], label=node.name, moves_zero=name in _MOVE_ZERO
    )


@handles("clamp", "clamp_", "hardtanh", "hardtanh_", "relu6", "clamp_min", "clamp_max")
def _clamp(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    low, high = a.get("min", a.get("min_val")), a.get("max", a.get("max_val"))
    if operator_of(node) == "relu6":
        low, high = 0.0, 6.0
    if isinstance(low, fx.Node) or isinstance(high, fx.Node):
        raise UnsupportedError("clamp between tensors")
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    return t.builder.activation(
        t.view(a["self"]),
        steps.CLAMP,
        label=node.name,
        parameters=(low, high),
        moves_zero=not low <= 0.0 <= high,
    )


@handles("leaky_relu", "leaky_relu_")
def _leaky_relu(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    parameters = (a["negative_slope"], 0.0)
    return t.builder.activation(
        t.view(a["self"]), steps.LEAKY_RELU, label=node.name, parameters=parameters
    )


@handles("elu", "elu_")
def _elu(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    if (a["scale"], a["input_scale"]) != (1, 1):
        raise UnsupportedError("ELU with other scales")
    parameters = (a["alpha"], 0.0)
    return t.builder.activation(
        t.view(a["self"]), steps.ELU, label=node.name, parameters=parameters
    )


@handles("add", "add_")
def _add(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    sides = _fixed(t, a)
    if sides is not None:
        tensor, numbers = sides
        return _affine(t, node, tensor, np.ones(1), numbers)
    left, right = _operands(t, a)
    fused = t.fuser.add((a["self"], left), (a["other"], right))
    return fused or t.builder.pointwise(left, right, steps.ADD, label=node.name)


@handles("sub", "sub_", "rsub")
def _subtract(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    sides = _fixed(t, a)
    reverse = operator_of(node) == "rsub"
    if sides is None:
        left, right = _operands(t, a)
        left, right = (right, left) if reverse else (left, right)
        return t.builder.pointwise(left, right, steps.SUBTRACT, label=node.name)
    tensor, numbers = sides
    if reverse != (tensor is a["other"]):
        return _affine(t, node, tensor, -np.ones(1), numbers)
    return _affine(t, node, tensor, np.ones(1), -numbers)


@handles("neg")
def _negate(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    return _affine(t, node, a["self"], -np.ones(1), np.zeros(1))


@handles("mul", "mul_")
def _multiply(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    sides = _fixed(t, a)
    if sides is not None:
        tensor, numbers = sides
        return _affine(t, node, tensor, numbers, np.zeros(1))
    left, right = t.view(a["self"]), t.view(a["other"])
    if left.shape == right.shape:
        return t.builder.pointwise(left, right, steps.MULTIPLY, label=node.name)
    if len(left.shape) != len(right.shape):
        raise UnsupportedError("products of different ranks")
    wide = left if math.prod(left.shape) > math.prod(right.shape) else right
    return t.builder.gate(wide, right if wide is left else left, label=node.name)


@handles("div", "div_")
def _divide(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    sides = _fixed(t, a)
    if a.get("rounding_mode") is not None or sides is None or sides[0] is a["other"]:
        raise UnsupportedError("a division by a tensor")
    return _affine(t, node, sides[0], 1.0 / sides[1], np.zeros(1))


def _operands(t: Translator, a: dict[str, Any]) -> tuple[View, View]:
    if a.get("alpha") not in (None, 1):
        raise UnsupportedError("sums with a factor")
    left, right = t.view(a["self"]), t.view(a["other"])
    if left.shape != right.shape:
        raise UnsupportedError("sums and products of different shapes")
    return left, right


def _fixed(t: Translator, a: dict[str, Any]) -> tuple[fx.Node, Numbers] | None:
    """Return the tensor and the fixed numbers of two operands, or None if both are tensors."""
    left, right = a["self"], a["other"]
    for tensor, other in ((left, right), (right, left)):
        if not isinstance(tensor, fx.Node) or tensor.name in t.constants:
            continue
        array = (
            t.array(other) if isinstance(other, fx.Node) and other.name in t.constants else other
        )
        if not isinstance(array, fx.Node):
            if a.get("alpha") not in (None, 1):
                raise UnsupportedError("sums with a factor")
            return tensor, np.asarray(array, dtype=np.float64)
    return None


def _affine(t: Translator, node: fx.Node, tensor: fx.Node, factor: Numbers, shift: Numbers) -> View:
    """Return a tensor times numbers plus numbers, which may differ along one dimension."""
    shape = t.view(tensor).shape
    factor, shift = np.broadcast_arrays(factor, shift)
    if factor.size == 1:
        return everywhere(t, node, tensor, factor.item(), shift.item())
    sizes = (1,) * (len(shape) - factor.ndim) + factor.shape
    axes = [axis for axis, size in enumerate(sizes) if size > 1]
    if len(sizes) != len(shape) or len(axes) != 1 or shape[axes[0]] != factor.size:
        raise UnsupportedError("sums and products with fixed numbers along several dimensions")
    return per_channel(t, node, tensor, axes[0], factor.reshape(-1), shift.reshape(-1))
