"""What a training run costs in theory: FLOPs, less those of weights that are masked."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mirrormask.optimizer import SparseOptimizer
from mirrormask.optimizer.finish import count_flops
from mirrormask.selection import select

PASSES = 3
"""A step costs three forward passes: one forward, and two products backward."""


@dataclass(frozen=True, kw_only=True)
class ForwardFlops:
    """FLOPs of the forward pass of one example.

    Attributes:
        total: Of the whole model, dense.
        by_tensor: Of each weight that a method targets, by its name.
    """

    total: int
    by_tensor: dict[str, int]

    @property
    def share(self) -> float:
        """Part of the FLOPs that goes through targeted weights."""
        return sum(self.by_tensor.values()) / self.total

    @classmethod
    def of(cls, model: nn.Module, inputs: Tensor) -> ForwardFlops:
        """Count those of a model on the first of some inputs."""
        flops = count_flops(model, inputs[:1])
        by_tensor = {
            target.name: sum(flops.get(name.rpartition(".")[0], 0) for name in target.names)
            for target in select(model)
        }
        return cls(total=flops[""], by_tensor=by_tensor)


class FlopMeter:
    """Adds up the FLOPs of a run: three forward passes a step, without masked weights.

    What a method itself does beside the passes (scores, sorting, its own update) is not counted,
    and neither is the dense gradient that some need now and then.

    Args:
        forward: Of one example.
    """

    def __init__(self, forward: ForwardFlops) -> None:
        self.forward = forward
        self.examples: float = 0.0
        self.flops: float = 0.0
        self._per_example = float(forward.total)

    def look(self, optimizer: SparseOptimizer) -> None:
        """Read the masks in force."""
        saved = 0.0
        for name, kept in optimizer.masks().items():
            share = 1.0 - int(kept.count_nonzero()) / kept.numel()
            saved += share * self.forward.by_tensor.get(name, 0)
        self._per_example = self.forward.total - saved

    def step(self, examples: int) -> None:
        """Count one step."""
        self.examples += examples
        self.flops += PASSES * self._per_example * examples

    @property
    def dense(self) -> float:
        """What the same steps cost without masks."""
        return PASSES * self.forward.total * self.examples
