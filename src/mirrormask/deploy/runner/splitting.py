"""Plan a model that is no program as a whole: programs, with torch's own operators between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

from mirrormask.deploy.runner.any_batch import OpenModel
from mirrormask.deploy.runner.graph import operator_of
from mirrormask.deploy.runner.joining import joined
from mirrormask.deploy.runner.region_choice import slow_nodes
from mirrormask.deploy.runner.region_module import RegionModule
from mirrormask.deploy.runner.regions import cut

_SLOW = "faster in torch"


@dataclass(frozen=True, kw_only=True)
class Split:
    """A graph of torch's operators and programs, and what each input must look like.

    The last inputs have ``names``; ``form`` is what the model puts out, with numbers for tensors.
    ``left`` says in words which operators stayed in torch and why, ``slow`` names the nodes that
    did because of measurements.
    """

    graph: fx.GraphModule
    part: int
    inputs: tuple[tuple[torch.dtype, tuple[int, ...]], ...]
    left: tuple[str, ...]
    slow: tuple[str, ...]
    names: tuple[str, ...]
    form: Any

    @property
    def regions(self) -> list[RegionModule]:
        """Return the programs in the order in which they run."""
        return [module for module in self.graph.modules() if isinstance(module, RegionModule)]


def split(
    opened: OpenModel,
    inputs: tuple[torch.Tensor, ...],
    part: int,
    *,
    slow: Sequence[str] | None = None,
) -> Split:
    """Plan an exported model in parts of ``part`` examples.

    Args:
        opened: The model.
        inputs: What it is called with, in the graph's order.
        part: How many examples a program works on at a time.
        slow: Nodes that earlier measurements left to torch; if None, each region is timed.

    Raises:
        PartError: Torch runs all of it faster.
    """
    program = opened.at_batch(part, inputs)
    found = cut(program, opened, part, dict.fromkeys(slow or (), _SLOW))
    if slow is None:
        slow = slow_nodes(opened, found, inputs)
        found = cut(program, opened, part, dict.fromkeys(slow, _SLOW)) if slow else found
    return Split(
        graph=joined(program, found),
        part=part,
        inputs=tuple((value.dtype, tuple(value.shape[1:])) for value in inputs),
        left=_in_words(found.reasons),
        slow=tuple(slow),
        names=opened.names,
        form=opened.form,
    )


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
