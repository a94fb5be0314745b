"""What neighbours of sparse layers can save: copies between layouts, and ReLUs of their own."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
from torch import fx, nn

from mirrormask.deploy.dead_channels import is_elementwise
from mirrormask.deploy.model_graph import ModelGraph, replace_module, sole_user, trace
from mirrormask.deploy.sparse_conv import SparseConv2d
from mirrormask.deploy.sparse_linear import SharedColumns, SparseLinear


def link_layouts(model: nn.Module) -> int:
    """Let sparse linear layers hand on their columns, and share those of an input they all read.

    Returns:
        How many layers now skip a copy.
    """
    graph = trace(model)
    if isinstance(graph, str):
        return 0
    linked = 0
    for node in graph.graph.nodes:
        layer = graph.module(node)
        if isinstance(layer, SparseLinear) and hands_on_columns(graph, node, _is_sparse):
            layer.output_layout = "columns"
            linked += 1
        linked += _share_input(graph, node)
    return linked


def fuse_relus(model: nn.Module) -> int:
    """Let sparse layers apply the ReLU that alone reads their result.

    Returns:
        How many ReLU modules became identities.
    """
    graph = trace(model)
    if isinstance(graph, str):
        return 0
    fused = 0
    for node in graph.graph.nodes:
        layer = graph.module(node)
        if not isinstance(layer, SparseLinear | SparseConv2d) or not graph.is_free(node):
            continue
        reader = _past_identities(graph, node)
        if reader is not None and graph.is_free(reader) and _is_relu(graph, reader):
            layer.relu = True
            replace_module(model, str(reader.target), nn.Identity())
            fused += 1
    return fused


def _past_identities(graph: ModelGraph, node: fx.Node) -> fx.Node | None:
    """Return the only reader of a value, behind the identities that folded norms left."""
    reader = sole_user(node)
    while reader is not None and type(graph.module(reader)) is nn.Identity:
        reader = sole_user(reader)
    return reader


def _is_relu(graph: ModelGraph, node: fx.Node) -> bool:
    return type(graph.module(node)) is nn.ReLU and len(node.args) == 1 and not node.kwargs


def _share_input(graph: ModelGraph, node: fx.Node) -> int:
    """Share the transposed value of a node among the sparse layers that read it."""
    layers = [graph.module(reader) for reader in node.users]
    sparse = [layer for layer in layers if isinstance(layer, SparseLinear)]
    # Nobody else may read it, because another reader might change it in place on the way.
    if len(sparse) < max(2, len(layers)) or not all(map(graph.is_free, node.users)):
        return 0
    shared = SharedColumns(len(sparse))
    for layer in sparse:
        layer.shared = shared
    return len(sparse) - 1


def hands_on_columns(
    graph: ModelGraph, node: fx.Node, takes: Callable[[nn.Module | None], bool]
) -> bool:
    """Tell whether a layer's value only ever reaches places that do not mind columns.

    Args:
        graph: Of the model.
        node: The layer's only call.
        takes: Whether a module is one that reads columns.
    """
    if not graph.is_free(node):
        return False
    reader = sole_user(node)
    while reader is not None:
        if takes(graph.module(reader)) or _adds_to_another(reader, node):
            return True
        if not is_elementwise(graph, reader):
            return False
        node, reader = reader, sole_user(reader)
    return False


def _is_sparse(module: nn.Module | None) -> bool:
    return isinstance(module, SparseLinear)


def _adds_to_another(reader: fx.Node, node: fx.Node) -> bool:
    """Tell whether ``reader`` is ``other + node``: the sum takes its layout from the first."""
    if reader.op != "call_function" or reader.target not in (operator.add, torch.add):
        return False
    first, *rest = reader.args
    return isinstance(first, fx.Node) and first is not node and rest == [node]
