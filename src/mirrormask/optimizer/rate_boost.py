"""How much faster a layer learns as it gets sparser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.pressure import Clock

RECENT = 0.25
"""Weight of the last measurement in the running mean of speeds."""

BoostState = dict[str, float]
"""What a boost remembers: plain numbers, so that checkpoints stay plain."""


@dataclass(frozen=True, kw_only=True)
class RateBoost:
    """Multiplies the learning rate of a layer by ``1 / density``, within what training bears.

    A sum over a twentieth of the inputs moves a twentieth as far for the same step of each weight,
    so a rate that suits the dense layer leaves the sparse one behind: in the parametrisation in
    which networks of all densities learn alike, rates go with the reciprocal of the density. That
    holds where rates are far from what training bears. What it bears is seen from the steps: in
    ``T`` of them, each of ``r`` times the size of the live weights and of random direction, weights
    wander by ``r sqrt(T)`` of their size. The boost never takes that beyond ``reach`` at the
    highest rate of the schedule, and where the rate as given is there already, nothing is boosted.
    The fastest speed since the first cut counts: a limit that rose where gradients vanish would
    throw a network that is about to die into infinity.

    Layers of few zeros are boosted little, tensors that are not made sparse never. The schedule
    keeps its shape: measured is the step for a unit of rate, and no more after ``until``.

    Source: the rule of "Sparse maximal update parameterization" (Dey et al., NeurIPS 2024); the
    bound is new.

    Args:
        reach: Part of their own size by which weights may wander over the run, positive.
        until: Fraction of the run after which measuring ends, in (0, 1].
        intervals: Number of measurements up to ``until``.

    Raises:
        ArgumentError: If an argument is outside its domain.
    """

    reach: float = 0.6
    until: float = 0.6
    intervals: int = 100

    def __post_init__(self) -> None:
        if not (math.isfinite(self.reach) and self.reach > 0):
            raise ArgumentError(
                f"reach={self.reach} lets no weight move: use a positive number, such as 0.6."
            )
        if not 0 < self.until <= 1:
            raise ArgumentError(f"until={self.until} is not in (0, 1]: use a part of the run.")
        if self.intervals < 1:
            raise ArgumentError(f"intervals={self.intervals} is too few: use at least 1.")

    def start(self) -> BoostState:
        """Return a state that knows of no speed and no rate."""
        return {"speed": 0.0, "fastest": 0.0, "highest": 0.0}

    def measures_at(self, clock: Clock) -> bool:
        """Return True at ``intervals`` evenly spaced steps before ``until``."""
        return clock.is_one_of(self.intervals, self.until)

    def react(self, state: BoostState, measured: Sequence[float]) -> BoostState:
        """Return the state after a measurement of an earlier step has arrived on the host.

        Args:
            state: Before it.
            measured: The step taken, in parts of the size of live weights, for a unit of rate.
        """
        (speed,) = measured
        if not (math.isfinite(speed) and speed > 0):
            return state
        known = state["speed"] or speed
        speed = known + RECENT * (speed - known)
        return state | {"speed": speed, "fastest": max(state["fastest"], speed)}

    def see(self, state: BoostState, clock: Clock) -> BoostState:
        """Return the state after a step at this rate."""
        return state | {"highest": max(state["highest"], clock.rate)}

    def limit(self, state: BoostState, clock: Clock) -> float:
        """Return the largest factor, at least 1; it is 1 before the first measurement."""
        stride = state["fastest"] * state["highest"]
        if stride <= 0:
            return 1.0
        return max(1.0, self.reach / (stride * math.sqrt(clock.steps)))

    def factor(self, density: Tensor, limit: float) -> Tensor:
        """Return by how much a layer of this density is boosted, 0-d, on its device."""
        return density.reciprocal().clamp(1.0, limit)
