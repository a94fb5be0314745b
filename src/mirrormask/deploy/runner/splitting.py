"""Plan a model that is no program as a whole: programs, with torch's own operators between them."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch._ops import OpOverload

from mirrormask.deploy.runner.any_batch import OpenModel
from mirrormask.deploy.runner.graph import ModelProgram, operator_of
from mirrormask.deploy.runner.region_module import RegionModule
from mirrormask.deploy.runner.regions import Cut, Region, cut


@dataclass(frozen=True, kw_only=True)
class Split:
    """A graph of torch's operators and programs, and what each input must look like.

    ``left`` says in words which operators stayed in torch and why.
    """

    graph: fx.GraphModule
    part: int
    inputs: tuple[tuple[torch.dtype, tuple[int, ...]], ...]
    left: tuple[str, ...]

    @property
    def regions(self) -> list[RegionModule]:
        """Return the programs in the order in which they run."""
        return [module for module in self.graph.modules() if isinstance(module, RegionModule)]


def split(opened: OpenModel, inputs: tuple[torch.Tensor, ...], part: int) -> Split:
    """Plan an exported model in parts of ``part`` examples.

    Raises:
        UnsupportedError: No part of it gains from a program.
    """
    program = opened.at_batch(part, inputs)
    found = cut(program, opened, part)
    return Split(
        graph=_joined(program, found),
        part=part,
        inputs=tuple((value.dtype, tuple(value.shape[1:])) for value in inputs),
        left=_in_words(found.reasons),
    )


def _joined(program: ModelProgram, found: Cut) -> fx.GraphModule:
    """Return the parts as one module that calls them in turn."""
    root, graph = nn.Module(), fx.Graph()
    known: dict[fx.Node, fx.Node] = {}
    for node in program.inputs:
        known[node] = graph.placeholder(node.name)

    def value_of(node: fx.Node) -> fx.Node:
        if node not in known:
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


def _in_words(reasons: Mapping[fx.Node, str]) -> tuple[str, ...]:
    counts = Counter(
        (operator_of(node), reason)
        for node, reason in reasons.items()
        # Sizes, and taking apart what an operator returns, are no work.
        if isinstance(node.target, OpOverload)
        and isinstance(node.meta["val"], torch.Tensor | tuple)
    )
    return tuple(
        f"{count} x {name}" + ("" if reason == f"the operator {name}" else f" ({reason})")
        for (name, reason), count in counts.items()
    )
