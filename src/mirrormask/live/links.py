"""Which layers of live weights can hand on their products without turning them."""

from __future__ import annotations

from collections.abc import Set

from torch import nn

from mirrormask.deploy.layouts import hands_on_columns
from mirrormask.deploy.model_graph import share_copy, trace


def linked_layers(model: nn.Module, live: Set[nn.Linear]) -> frozenset[nn.Linear]:
    """Return the live layers whose output reaches another one, through elementwise steps, alone.

    Products of live weights take and give a batch column by column. A layer whose output other code
    may see gives ordinary rows instead; where only such layers see it, both copies can be left out.

    Args:
        model: With its live layers already changed over.
        live: Those layers.
    """
    names = {module: name for name, module in model.named_modules()}
    chosen = {names[layer] for layer in live}
    # Tracing runs the model's own code on stand-ins, which must not be left in its attributes.
    try:
        twin = share_copy(model)
    # Whatever cannot be copied only goes without links.
    except Exception:
        return frozenset()
    for name in chosen:
        twin.get_submodule(name).__class__ = nn.Linear  # a leaf of the trace
    graph = trace(twin)
    if isinstance(graph, str):
        return frozenset()
    takes = {twin.get_submodule(name) for name in chosen}
    return frozenset(
        layer
        for node in graph.graph.nodes
        if graph.module(node) in takes
        and hands_on_columns(graph, node, lambda module: module in takes)
        and isinstance(layer := model.get_submodule(str(node.target)), nn.Linear)
    )
