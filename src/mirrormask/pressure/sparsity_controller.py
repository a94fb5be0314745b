"""The strength is steered by the zeros there are: up while they are too few, down if too many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.pressure.base import Clock, Pressure, PressureState, check_fraction
from mirrormask.ranks import count_true


@dataclass(frozen=True, kw_only=True)
class SparsityController(Pressure):
    """Multiply the strength by ``1 + gain`` where there are too few zeros, divide if too many.

    For geometries whose weights are exact zeros now and again: on others there
    is nothing to see, and the strength rises to its bound. A measurement is used one interval
    late. Each time that the target has been passed, from either side, the gain shrinks, so that
    the strength comes to rest.

    Source: the controller of Bungert et al., "A Bregman Learning Framework for Sparse Neural
    Networks" (JMLR 2022); the ramp is that of Zhu & Gupta (2017).

    Args:
        strength: The first strength, positive.
        gain: By how much a reaction changes the strength, positive.
        every: Steps between reactions.
        damping: Factor of the gain for each time the target is passed, in (0, 1].
        ramp: Part of the run in [0, 1] over which the target itself rises, by a cubic from 0;
            at 0 it stands from the start.
        until: Part of the run after which the strength stays as it is, in (0, 1].
        reach: Bound on the strength as a multiple and as a part of its first value, at least 1.

    Raises:
        ArgumentError: If an argument is outside its domain.

    Example:
        >>> pressure = SparsityController(strength=0.1, gain=0.5)
        >>> clock = Clock(step=50, steps=100, rate=0.1)
        >>> dense = pressure.react(pressure.start(1.0), [0.6, 0.9], clock)
        >>> f"{pressure.alpha(dense, clock):.2f}"
        '0.15'
    """

    strength: float
    gain: float = 0.2
    every: int = 50
    damping: float = 0.95
    ramp: float = 0.0
    until: float = 1.0
    reach: float = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("strength", self.strength), ("gain", self.gain)):
            if not (math.isfinite(value) and value > 0):
                raise ArgumentError(f"{name}={value} steers nothing: use a positive number.")
        if self.every < 1:
            raise ArgumentError(f"every={self.every} is no interval: use at least 1 step.")
        if not 0 < self.damping <= 1:
            raise ArgumentError(f"damping={self.damping} is no factor: use a number in (0, 1].")
        if not 0 <= self.ramp <= 1:
            raise ArgumentError(f"ramp={self.ramp} is no part of the run: use a number in [0, 1].")
        check_fraction("until", self.until)
        if not (math.isfinite(self.reach) and self.reach >= 1):
            raise ArgumentError(f"reach={self.reach} leaves no room: use a number >= 1.")

    def start(self, l1: float) -> PressureState:
        """Return the first strength and gain, with the target not yet on any side."""
        return {"alpha": self.strength, "gain": self.gain, "side": 0.0}

    def alpha(self, state: PressureState, clock: Clock) -> float:
        """Return the strength that was last steered to; never 0."""
        return state["alpha"]

    def measures_at(self, clock: Clock) -> bool:
        """Return True at every ``every``-th step up to ``until``."""
        return clock.step % self.every == 0 and clock.before(self.until)

    def measure(self, distances: Sequence[Tensor], sparsity: float) -> Tensor:
        """Return the fraction of zeros, and the target."""
        zeros = count_true([distance == 0 for distance in distances]).sum()
        weights = sum(distance.numel() for distance in distances)
        fraction = zeros.to(torch.float32) / weights
        return torch.stack([fraction, torch.full_like(fraction, sparsity)])

    def react(self, state: PressureState, measured: Sequence[float], clock: Clock) -> PressureState:
        """Return the state with the strength a step nearer to what the target needs."""
        zeros, target = measured
        target *= self._risen(clock.step - self.every, clock.steps)
        side = float((target > zeros) - (target < zeros))
        gain = state["gain"] * (self.damping if side * state["side"] < 0 else 1.0)
        alpha = state["alpha"] * (1.0 + gain) ** side
        low, high = self.strength / self.reach, self.strength * self.reach
        return {"alpha": min(max(alpha, low), high), "gain": gain, "side": side or state["side"]}

    def _risen(self, step: int, steps: int) -> float:
        """Return the part of the target that is asked for at a step, in [0, 1]."""
        if step >= self.ramp * steps:
            return 1.0
        return 1.0 - (1.0 - step / (self.ramp * steps)) ** 3
