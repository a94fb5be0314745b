"""Learning-rate schedules of comparisons: half a cosine, or steps down, after a linear rise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from mirrormask.errors import ArgumentError
from mirrormask.names import unknown_name
from mirrormask.study.warmup import warmup_cosine

Shape = Literal["cosine", "step"]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The factor on a learning rate as a function of the steps done; calling it gives it.

    Args:
        shape: ``"cosine"`` falls along half a cosine to 0, ``"step"`` falls at ``drops``.
        rise: Steps of the linear rise before that; a tenth of the steps if None.
        drops: Finished fractions of a run, ascending in (0, 1), at which the rate falls.
        drop_factor: What each drop multiplies the rate by, in (0, 1).

    Raises:
        ArgumentError: If a value is outside its domain.

    Example:
        >>> steps = Schedule(shape="step", rise=2, drops=(0.5, 0.8), drop_factor=0.5)
        >>> [steps(step, 10) for step in range(10)]
        [0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]
    """

    shape: Shape = "cosine"
    rise: int | None = None
    drops: tuple[float, ...] = (0.5, 0.75)
    drop_factor: float = 0.1

    def __post_init__(self) -> None:
        if self.shape not in get_args(Shape):
            raise ArgumentError(unknown_name("schedule", self.shape, get_args(Shape)))
        if self.rise is not None and self.rise < 0:
            raise ArgumentError(f"A rise of {self.rise} steps is negative: use 0 or more.")
        ends = (0.0, *self.drops, 1.0)
        if any(before >= after for before, after in pairwise(ends)):
            raise ArgumentError(
                f"drops={list(self.drops)} are no parts of a run: use ascending fractions in "
                "(0, 1), such as [0.5, 0.75]."
            )
        if not 0 < self.drop_factor < 1:
            raise ArgumentError(f"drop_factor={self.drop_factor} is outside (0, 1): try 0.1.")

    def __call__(self, step: int, steps: int) -> float:
        """Return the factor in a step, counted from 0, of so many."""
        if self.shape == "cosine" and self.rise is None:
            return warmup_cosine(step, steps)
        rise = max(1, round(0.1 * steps)) if self.rise is None else self.rise
        if step < rise:
            return (step + 1) / rise
        if self.shape == "step":
            return self.drop_factor ** sum(step >= drop * steps for drop in self.drops)
        return 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
