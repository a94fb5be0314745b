"""Leave to torch what torch does faster: each region is timed on the values that it really gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from mirrormask.deploy.runner.any_batch import OpenModel
from mirrormask.deploy.runner.graph import ModelProgram
from mirrormask.deploy.runner.joining import joined
from mirrormask.deploy.runner.region_module import RegionModule
from mirrormask.deploy.runner.regions import Cut, Region
from mirrormask.deploy.timing import interleave

_ROUNDS = 7


def slow_nodes(opened: OpenModel, found: Cut, inputs: tuple[torch.Tensor, ...]) -> tuple[str, ...]:
    """Return the nodes of all regions that run slower than torch runs the same nodes."""
    program = opened.at_batch(len(inputs[0]), inputs)
    wanted = {node.name for region in found.programs for node in region.inputs}
    with torch.inference_mode():
        values = _values(opened, inputs, wanted)
        slow: list[str] = []
        for region, description in found.programs.items():
            given = tuple(values[node.name] for node in region.inputs)
            runs = {
                "program": _run_of(RegionModule(description), given),
                "torch": _run_of(_in_torch(program, region), given),
            }
            timings = interleave(runs, rounds=_ROUNDS)
            if timings.speedup("program", over="torch").median < 1.0:
                slow += [node.name for node in region.nodes]
    return tuple(slow)


def _in_torch(program: ModelProgram, region: Region) -> fx.GraphModule:
    """Return a region's nodes as torch would run them, for the batch of the program."""
    named = {node.name: node for node in (*program.inputs, *program.nodes)}
    nodes = tuple(named[node.name] for node in region.nodes)
    alone = ModelProgram(
        nodes=nodes,
        constants=program.constants,
        inputs=tuple(named[node.name] for node in region.inputs),
        outputs=tuple(named[node.name] for node in region.outputs),
    )
    return joined(alone, Cut(parts=nodes, programs={}, reasons={}))


def _values(
    opened: OpenModel, inputs: tuple[torch.Tensor, ...], wanted: set[str]
) -> dict[str, torch.Tensor]:
    """Run the model and keep the values of some nodes."""
    recorder = _Recorder(opened.module, wanted)
    recorder.run(*opened.arguments(inputs))
    return recorder.found


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, wanted: set[str]) -> None:
        super().__init__(module)
        self.wanted, self.found = wanted, dict[str, torch.Tensor]()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self.wanted:
            self.found[n.name] = value.clone()
        return value


def _run_of(module: nn.Module, given: tuple[torch.Tensor, ...]) -> Callable[[], object]:
    return lambda: module(*given)
