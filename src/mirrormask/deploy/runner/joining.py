"""Put the parts of a cut graph together as one module that calls them in turn."""

from __future__ import annotations

import operator

import torch
from torch import fx, nn

from mirrormask.deploy.runner.graph import ModelProgram
from mirrormask.deploy.runner.region_module import RegionModule
from mirrormask.deploy.runner.regions import Cut, Region


def joined(program: ModelProgram, found: Cut) -> fx.GraphModule:
    """Return a module that takes what the graph takes and returns a tuple of its outputs.

    Sizes that no part computes are those of the batch for which values are known.
    """
    root, graph = nn.Module(), fx.Graph()
    known: dict[fx.Node, fx.Node] = {}
    for node in program.inputs:
        known[node] = graph.placeholder(node.name)

    def value_of(node: fx.Node) -> fx.Node | int:
        if node not in known:
            if isinstance(node.meta["val"], int):
                return node.meta["val"]
            # A weight that torch reads, held under the name of its placeholder.
            hold(root, node.name, program.constants[node.name])
            known[node] = graph.get_attr(node.name)
        return known[node]

    for part in found.parts:
        if isinstance(part, fx.Node):
            known[part] = graph.node_copy(part, value_of)
        else:
            _call(root, graph, part, found, known)
    graph.output(tuple(value_of(node) for node in program.outputs))
    module = fx.GraphModule(root, graph)
    # Sizes that only regions asked for are not computed.
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    return module


def _call(
    root: nn.Module, graph: fx.Graph, region: Region, found: Cut, known: dict[fx.Node, fx.Node]
) -> None:
    name = f"region{len(list(root.children()))}"
    root.add_module(name, RegionModule(found.programs[region]))
    called = graph.call_module(name, tuple(known[node] for node in region.inputs))
    if len(region.outputs) == 1:
        known[region.outputs[0]] = called
        return
    for index, node in enumerate(region.outputs):
        known[node] = graph.call_function(operator.getitem, (called, index))


def hold(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Keep a tensor in a module: parameters as such, so that copies know them again."""
    if isinstance(tensor, nn.Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)
