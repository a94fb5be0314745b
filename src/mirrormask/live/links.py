"""Which layers of live weights can hand on their products without turning them."""

from __future__ import annotations

from collections.abc import Set
from typing import cast

from torch import nn

from mirrormask.deploy.layouts import hands_on_columns
from mirrormask.deploy.model_graph import share_copy, trace
from mirrormask.live.layers import Layer, LiveLinear, give_back


def linked_layers(model: nn.Module, live: Set[Layer]) -> list[LiveLinear]:
    """Return the live linear layers whose output reaches another one, through elementwise steps.

    Their products take and give a batch column by column. A layer whose output other code may see
    gives ordinary rows instead; where only such layers see it, both copies can be left out.

    Args:
        model: With its live layers already changed over.
        live: Those layers.
    """
    names = {module: name for name, module in model.named_modules()}
    linear = {names[layer] for layer in live if isinstance(layer, LiveLinear)}
    # Tracing runs the model's own code on stand-ins, which must not be left in its attributes.
    try:
        twin = share_copy(model)
    # Whatever cannot be copied goes without links.
    except Exception:
        return []
    for layer in live:
        give_back(cast(Layer, twin.get_submodule(names[layer])))  # plain layers are leaves
    graph = trace(twin)
    if isinstance(graph, str):
        return []
    takes = {twin.get_submodule(name) for name in linear}
    return [
        cast(LiveLinear, model.get_submodule(str(node.target)))
        for node in graph.graph.nodes
        if graph.module(node) in takes
        and hands_on_columns(graph, node, lambda module: module in takes)
    ]
