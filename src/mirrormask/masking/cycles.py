"""Prune, rewind, train again: weight rewinding and learning-rate rewinding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from mirrormask.errors import ArgumentError
from mirrormask.masking.policy import Masking, Rewind


@dataclass(frozen=True, kw_only=True)
class Cycles(Masking):
    """Train, cut a part of what is left, start again; ``cycles`` cuts and one phase more.

    All phases are equally long. Cut ``k`` leaves ``(1 - sparsity) ** (k / cycles)`` of the
    weights, so each leaves the same part of those before it. What starts again is the optimizer
    and, in a training loop that asks :meth:`phase`, the learning rate (LRR), or with them all
    weights, as they were early in the first phase (WR, the lottery ticket's way).

    Source: Frankle & Carbin (ICLR 2019); Frankle et al. (ICML 2020) for late rewinding; Renda et
    al. (ICLR 2020) for learning rates.

    Args:
        cycles: Number of cuts, at least 1; the paper of PILoT has 25 that keep 0.8 each.
        rewind: ``"rate"`` or ``"weights"``.
        store: Part of the first phase after which the weights to rewind to are stored, in [0, 1);
            0 is the initialisation.

    Raises:
        ArgumentError: If an argument is outside its domain.

    Example:
        >>> policy = Cycles(cycles=2)
        >>> [policy.cut_after(step, 6, 0.75) for step in range(7)]
        [None, None, 0.5, None, 0.75, None, None]
    """

    cycles: int = 3
    rewind: Rewind = "rate"
    store: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cycles < 1:
            raise ArgumentError(f"cycles={self.cycles} is too few: use at least 1.")
        if self.rewind not in get_args(Rewind):
            raise ArgumentError(
                f"rewind={self.rewind!r} is unknown: use one of {get_args(Rewind)}."
            )
        if not 0 <= self.store < 1:
            raise ArgumentError(
                f"store={self.store} is not a part of the first phase: use a number in [0, 1)."
            )

    def cut_after(self, step: int, steps: int, sparsity: float) -> float | None:
        """Return the next sparsity at the end of each phase but the last."""
        ends = [end for end in range(1, self.cycles + 1) if self._begin(end, steps) == step]
        if not ends or step == 0:
            return None
        if ends[-1] == self.cycles:
            return sparsity
        return 1.0 - math.pow(1.0 - sparsity, ends[-1] / self.cycles)

    def last_cut(self, steps: int) -> int:
        """Return the step of the last cycle's cut."""
        return self._begin(self.cycles, steps)

    def phase(self, step: int, steps: int) -> tuple[int, int]:
        """Return the first step and the length of the phase that a step is in."""
        begins = [self._begin(number, steps) for number in range(self.cycles + 1)] + [steps]
        first = max(begin for begin in begins if begin <= step)
        return first, min(begin for begin in begins if begin > step) - first

    def stores_after(self, step: int, steps: int) -> bool:
        """Return whether these are the weights to rewind to."""
        return self.rewind == "weights" and step == int(self.store * self._begin(1, steps))

    def rewind_after(self, step: int, steps: int) -> Rewind | None:
        """Return what starts again where a phase ends, but for the last."""
        # In a run of very few steps a cut may fall on the last one; no training would follow.
        if step == steps or self.cut_after(step, steps, 0.5) is None:
            return None
        return self.rewind

    def _begin(self, number: int, steps: int) -> int:
        return round(number * steps / (self.cycles + 1))
