"""Torch's operators that mix channels or places: layers, norms, attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import fx

from mirrormask.deploy.runner.channels import per_channel
from mirrormask.deploy.runner.operations import Taps
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.storage import View
from mirrormask.deploy.runner.tokens import attention, norm
from mirrormask.deploy.runner.translator import Translator, handles, pair


@handles("conv1d", "conv2d")
def _convolution(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    weight = t.array(a["weight"])
    assert weight is not None
    if isinstance(a["padding"], str):
        raise UnsupportedError("padding by name")
    flat = weight.ndim == 3
    taps = Taps(
        kernel=pair(weight.shape[2:], flat, 1),
        stride=pair(a["stride"], flat, 1),
        pad=pair(a["padding"], flat, 0),
        dilation=pair(a["dilation"], flat, 1),
    )
    return t.builder.convolution(
        t.view(a["input"]),
        weight,
        t.array(a["bias"]),
        taps=taps,
        groups=a["groups"],
        label=node.name,
        readers=len(a["input"].users),
    )


@handles("linear")
def _linear(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    weight = t.array(a["weight"])
    assert weight is not None
    return t.builder.linear(t.view(a["input"]), weight, t.array(a["bias"]), label=node.name)


@handles("addmm", "mm", "matmul")
def _product(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    x, weight = (
        (a["mat1"], a["mat2"]) if "mat1" in a else (a["self"], a.get("mat2", a.get("other")))
    )
    matrix, bias = t.array(weight), t.array(a["self"]) if "mat1" in a else None
    if matrix is None or matrix.ndim != 2 or (bias is not None and bias.ndim != 1):
        raise UnsupportedError("products with other than a matrix of weights")
    if (a.get("alpha", 1), a.get("beta", 1)) != (1, 1):
        raise UnsupportedError("products with a factor")
    return t.builder.linear(t.view(x), np.ascontiguousarray(matrix.T), bias, label=node.name)


@handles("batch_norm")
def _batch_norm(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    mean, variance = t.array(a["running_mean"]), t.array(a["running_var"])
    if a["training"] or mean is None or variance is None:
        raise UnsupportedError("BatchNorm without running statistics")
    factor = 1.0 / np.sqrt(variance.astype(np.float64) + a["eps"])
    weight, bias = t.array(a["weight"]), t.array(a["bias"])
    if weight is not None:
        factor *= weight
    shift = (0.0 if bias is None else bias) - factor * mean
    # Channels are the second dimension, also of signals and of [n, features].
    return per_channel(t, node, a["input"], 1, factor, np.broadcast_to(shift, factor.shape))


@handles("layer_norm")
def _layer_norm(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    if len(a["normalized_shape"]) != 1:
        raise UnsupportedError("LayerNorm over several dimensions")
    return norm(
        t.builder,
        t.view(a["input"]),
        t.array(a["weight"]),
        t.array(a["bias"]),
        a["eps"],
        label=node.name,
    )


@handles("scaled_dot_product_attention")
def _attention(t: Translator, node: fx.Node, a: dict[str, Any]) -> View:
    if a["attn_mask"] is not None or a["enable_gqa"]:
        raise UnsupportedError("attention with a mask")
    q, k, v = (t.view(a[name]) for name in ("query", "key", "value"))
    scale = a["scale"] if a["scale"] is not None else 1.0 / math.sqrt(q.shape[-1])
    return attention(t.builder, q, k, v, scale=scale, causal=bool(a["is_causal"]), label=node.name)
