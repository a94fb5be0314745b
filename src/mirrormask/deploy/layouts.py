"""Keep activations in the layout that sparse products like, from one sparse layer to the next."""

from __future__ import annotations

from torch import fx, nn

from mirrormask.deploy.dead_channels import is_elementwise
from mirrormask.deploy.model_graph import ModelGraph, sole_user, trace
from mirrormask.deploy.sparse_linear import SparseLinear


def link_layouts(model: nn.Module) -> int:
    """Let sparse linear layers hand on their columns where only another one reads them.

    Returns:
        How many layers now skip the copy back to rows.
    """
    graph = trace(model)
    if isinstance(graph, str):
        return 0
    linked = 0
    for node in graph.graph.nodes:
        layer = graph.module(node)
        if isinstance(layer, SparseLinear) and graph.is_free(node) and _feeds_sparse(graph, node):
            layer.output_layout = "columns"
            linked += 1
    return linked


def _feeds_sparse(graph: ModelGraph, node: fx.Node) -> bool:
    reader = sole_user(node)
    while reader is not None:
        if isinstance(graph.module(reader), SparseLinear):
            return True
        if not is_elementwise(graph, reader):
            return False
        reader = sole_user(reader)
    return False
