"""Cut an exported graph into regions that are programs, and operators that stay in torch.

Torch's operators and regions alternate in stages: a node comes as early as what it reads allows,
in the first stage of its own kind. Stages only read earlier ones, so that no two parts can wait for
each other, however branches cross.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import fx

# This registers what becomes of each operator.
import mirrormask.deploy.runner.translate  # noqa: F401
from mirrormask.deploy.runner.any_batch import OpenModel
from mirrormask.deploy.runner.copies import copy_steps
from mirrormask.deploy.runner.emit import emit
from mirrormask.deploy.runner.graph import ModelProgram, gives_floats, operator_of
from mirrormask.deploy.runner.operations import Join, Move, Split
from mirrormask.deploy.runner.reasons import PartError, UnsupportedError
from mirrormask.deploy.runner.translator import Translator, refuse
from mirrormask.runtime.description import Description

# Operators that gain from zeros, and the share of zeros from which on they are worth a program.
_PRODUCTS = ("linear", "conv1d", "conv2d", "addmm", "mm", "matmul")
_LEAST_ZEROS = 0.5
_NOTHING_SPARSE = "nothing sparse beside it"
_NOT_BATCHED = "a value that does not begin with the batch"


@dataclass(eq=False, kw_only=True)
class Region:
    """Nodes that run as one program, with what they read from outside and what is read there."""

    nodes: list[fx.Node] = field(default_factory=list)
    inputs: list[fx.Node] = field(default_factory=list)
    outputs: list[fx.Node] = field(default_factory=list)

    def translated(self, constants: Mapping[str, torch.Tensor]) -> Translator:
        """Return a translation of the nodes, without outputs so far."""
        translator = Translator(constants)
        for node in self.inputs:
            translator.read(node)
        for node in self.nodes:
            translator.add(node)
        return translator


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A graph in parts that run one after another: regions, and nodes of torch with reasons."""

    parts: tuple[Region | fx.Node, ...]
    programs: Mapping[Region, Description]
    reasons: Mapping[fx.Node, str]


def cut(program: ModelProgram, opened: OpenModel, batch: int, left: Mapping[str, str]) -> Cut:
    """Return a graph in regions that are as large as may be, each with a program.

    Args:
        program: The graph, with values known for ``batch`` examples.
        opened: The same graph for any batch.
        batch: How many examples a program works on.
        left: Nodes that stay in torch in any case, with the reason.

    Raises:
        PartError: There is no region.
    """
    left = dict(left)
    while True:
        stages = _Stages(program, opened, left)
        stages.fill()
        regions = stages.regions()
        worse = _light(regions, program.constants) or {
            node.name: _NOT_BATCHED
            for region in regions
            for node in region.outputs
            if node.name not in opened.batched
        }
        worse = worse or _closed(regions, program.constants, batch)
        programs: dict[Region, Description] = {}
        for region in () if worse else regions:
            try:
                programs[region] = emit(_finished(region, program.constants, batch).builder.network)
            except UnsupportedError as reason:
                names = {node.name for node in region.nodes}
                blamed = {reason.operator} & names or names
                worse |= dict.fromkeys(blamed, str(reason))
        if not worse:
            break
        # Each turn leaves at least one more operator to torch, so that this comes to an end.
        left |= worse
    if not regions:
        raise PartError("no part of it gains from zeros")
    return Cut(parts=stages.parts(), programs=programs, reasons=stages.reasons)


class _Stages:
    """Nodes by stages: even ones are torch's, odd ones are regions."""

    def __init__(self, program: ModelProgram, opened: OpenModel, left: Mapping[str, str]) -> None:
        self.program, self.opened, self.left = program, opened, left
        self.stage: dict[fx.Node, int] = {}
        self.reasons: dict[fx.Node, str] = {}
        self._found: dict[int, Region] = {}
        self._translators: dict[int, Translator] = {}

    def fill(self) -> None:
        """Give every node its stage."""
        for node in self.program.nodes:
            least = max((self.stage.get(source, 0) for source in node.all_input_nodes), default=0)
            self.stage[node] = self._region_of(node, least) or least + least % 2

    def regions(self) -> list[Region]:
        """Return the regions with their outputs."""
        results = set(self.program.outputs)
        for region in self._found.values():
            inside = set(region.nodes)
            region.outputs = [
                node
                for node in region.nodes
                if node in results or any(user not in inside for user in node.users)
            ]
        return [region for region in self._found.values() if region.nodes]

    def parts(self) -> tuple[Region | fx.Node, ...]:
        """Return regions and torch's nodes in an order in which they can run."""
        found: list[Region | fx.Node] = []
        for stage in range(max(self.stage.values(), default=0) + 1):
            if stage % 2:
                found += [self._found[stage]] if stage in self._found else []
            else:
                found += [node for node in self.program.nodes if self.stage[node] == stage]
        return tuple(found)

    def _region_of(self, node: fx.Node, least: int) -> int | None:
        """Return the stage of the region that takes a node, or None with a reason."""
        reason = self.left.get(node.name)
        if reason is None:
            first = least + 1 - least % 2
            for stage in (first, first + 2):
                try:
                    self._grow(stage, node)
                    return stage
                except UnsupportedError as error:
                    reason = reason or str(error)
        self.reasons[node] = reason or ""
        return None

    def _grow(self, stage: int, node: fx.Node) -> None:
        refuse(node)
        if node.name not in self.opened.kept:
            raise UnsupportedError(_NOT_BATCHED)
        region = self._found.setdefault(stage, Region())
        inside = {*region.nodes, *region.inputs}
        new = [
            source
            for source in node.all_input_nodes
            if source not in inside
            and source.name not in self.program.constants
            # Sizes are arguments of reshapes, whose outcome is known.
            and isinstance(source.meta.get("val"), torch.Tensor)
        ]
        for source in new:
            if not gives_floats(source):
                raise UnsupportedError(f"an operand of {source.meta['val'].dtype}")
            if source.name not in self.opened.batched:
                raise UnsupportedError(_NOT_BATCHED)
        grown = Region(nodes=[*region.nodes, node], inputs=[*region.inputs, *new])
        if stage not in self._translators:
            self._translators[stage] = region.translated(self.program.constants)
        translator = self._translators[stage]
        try:
            for source in new:
                translator.read(source)
            translator.add(node)
        except UnsupportedError:
            del self._translators[stage]
            raise
        self._found[stage] = grown


def _light(regions: Iterable[Region], constants: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Return the nodes of all parts of regions that have no layer with zeros."""
    found: dict[str, str] = {}
    for region in regions:
        for nodes in _connected(region):
            if not any(_gains(node, constants) for node in nodes):
                found |= {node.name: _NOTHING_SPARSE for node in nodes}
    return found


def _connected(region: Region) -> list[set[fx.Node]]:
    """Return the nodes in groups that do not read each other."""
    groups: list[set[fx.Node]] = []
    for node in region.nodes:
        mine = {node}
        for source in node.all_input_nodes:
            for group in [group for group in groups if source in group]:
                groups.remove(group)
                mine |= group
        groups.append(mine)
    return groups


def _gains(node: fx.Node, constants: Mapping[str, torch.Tensor]) -> bool:
    if operator_of(node) not in _PRODUCTS:
        return False
    weights = [constants[x.name] for x in node.all_input_nodes if x.name in constants]
    return any(
        int(torch.count_nonzero(weight)) <= (1.0 - _LEAST_ZEROS) * weight.numel()
        for weight in weights
        if weight.ndim > 1
    )


def _closed(
    regions: Iterable[Region], constants: Mapping[str, torch.Tensor], batch: int
) -> dict[str, str]:
    """Return nodes whose values cannot leave a region, or be copied in it, with the reasons."""
    found: dict[str, str] = {}
    for region in regions:
        translator = region.translated(constants)
        for node in region.outputs:
            try:
                translator.write(node, batch)
            except UnsupportedError as reason:
                found[node.name] = str(reason)
        for operation in translator.builder.network.operations:
            try:
                if isinstance(operation, Move | Join | Split):
                    copy_steps(operation)
            except UnsupportedError as reason:
                found[operation.origin] = str(reason)
    return found


def _finished(region: Region, constants: Mapping[str, torch.Tensor], batch: int) -> Translator:
    translator = region.translated(constants)
    for node in region.outputs:
        translator.write(node, batch)
    return translator
