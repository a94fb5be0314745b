"""Fold BatchNorm into the layer before it: exact for a model in evaluation mode."""

from __future__ import annotations

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from mirrormask.deploy.model_graph import ModelGraph, replace_module, sole_user

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batch_norms(graph: ModelGraph) -> int:
    """Fold every BatchNorm that directly follows a convolution or a linear layer.

    The layers of ``graph.model`` are changed in place and the norms become identities. Zeros stay
    zeros: folding multiplies whole rows.

    Returns:
        How many norms were folded.
    """
    folded = 0
    for node in graph.graph.nodes:
        norm_node = sole_user(node)
        if norm_node is None or not (graph.is_free(node) and graph.is_free(norm_node)):
            continue
        layer, norm = graph.module(node), graph.module(norm_node)
        if not isinstance(norm, _NORMS) or norm_node.args != (node,):
            continue
        if norm.running_mean is None or norm.running_var is None or norm.training:
            continue
        if _fold(layer, norm, node):
            replace_module(graph.model, str(norm_node.target), nn.Identity())
            folded += 1
    return folded


def _fold(layer: nn.Module | None, norm: nn.Module, node: fx.Node) -> bool:
    assert isinstance(norm, _NORMS) and norm.running_mean is not None
    assert norm.running_var is not None
    bias = getattr(layer, "bias", None)
    if type(layer) in _CONVS:
        assert isinstance(layer, _CONVS)
        weight, bias = fuse_conv_bn_weights(
            layer.weight,
            bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
    elif type(layer) is nn.Linear and type(norm) is nn.BatchNorm1d and _is_matrix(node):
        weight, bias = fuse_linear_bn_weights(
            layer.weight,
            bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
    else:
        return False
    layer.weight, layer.bias = weight.requires_grad_(False), bias.requires_grad_(False)
    return True


def _is_matrix(node: fx.Node) -> bool:
    # On [n, length, channels] a BatchNorm1d normalises the length, not what the layer puts out.
    return node.meta.get("ndim") == 2
