"""The strength is found from the sparsity asked for: nothing to tune."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.masking import zeros_asked
from mirrormask.pressure.base import Clock, Pressure, PressureState, check_fraction


@dataclass(frozen=True, kw_only=True)
class SeekTarget(Pressure):
    """Feedback on the tail: the share of ``sum |x|`` held by the weights that will be cut.

    The strength is set as a pace, the budget ``A`` spent per unit of the run, so that it means the
    same at any learning rate: ``alpha = pace / (rate * steps * until)``. The pace starts at
    ``budget`` and is bounded by ``budget / slack`` and ``budget * slack``, so the weights that
    nothing holds decay by ``exp(-4 A)`` with ``A`` inside these bounds, whatever the feedback does.
    The tail is to fall along a straight line in its logarithm, from what it is at the start to
    ``tail`` at the fraction ``until`` of the run: above the line the pace rises, below it falls,
    by ``exp(gain * error)`` at each measurement, the error a logarithm clipped to ±1. A measurement
    is used one interval later, so no step waits for the device. With nothing to cut there is no
    tail, and no pressure after the first interval.

    Args:
        budget: Budget A at an unchanged pace.
        slack: Factor by which the pace may leave ``budget``, at least 1.
        tail: Share of the tail when the pressure ends, in (0, 1).
        until: Fraction of the run after which the pressure is off, in (0, 1].
        intervals: Number of measurements up to ``until``.
        gain: How sharply the pace reacts.

    Raises:
        ArgumentError: If an argument is outside its domain.
    """

    budget: float = 1.0
    slack: float = 4.0
    tail: float = 0.05
    until: float = 0.5
    intervals: int = 100
    gain: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("until", self.until)
        if not 0 < self.tail < 1:
            raise ArgumentError(f"tail={self.tail} is not a share: use a number in (0, 1).")
        if self.intervals < 1:
            raise ArgumentError(f"intervals={self.intervals} is too few: use at least 1.")
        if not (math.isfinite(self.slack) and self.slack >= 1):
            raise ArgumentError(f"slack={self.slack} leaves no room: use a number >= 1.")
        for name in ("budget", "gain"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ArgumentError(f"{name}={getattr(self, name)} must be positive and finite.")

    def start(self, l1: float) -> PressureState:
        """Return the pace before any feedback."""
        return {"pace": self.budget, "first_tail": 0.0}

    def alpha(self, state: PressureState, clock: Clock) -> float:
        """Return the strength that keeps the pace, or 0 once ``until`` has passed."""
        if not clock.before(self.until) or clock.rate <= 0:
            return 0.0
        return state["pace"] / (clock.rate * clock.steps * self.until)

    def measures_at(self, clock: Clock) -> bool:
        """Return True at ``intervals`` evenly spaced steps before ``until``."""
        every = max(1, round(self.until * clock.steps / self.intervals))
        return clock.step % every == 0 and clock.before(self.until)

    def measure(
        self, weights: Sequence[Tensor], grads: Sequence[Tensor], sparsity: float
    ) -> Tensor:
        """Return the share of the tail."""
        flat = torch.cat([weight.flatten() for weight in weights]).abs_()
        total = flat.sum(dtype=torch.float64)
        count = zeros_asked(sparsity, flat.numel())
        if count == 0:
            return torch.zeros(1, dtype=torch.float64, device=flat.device)
        threshold = flat.kthvalue(count).values
        below = flat < threshold
        tied = (count - below.sum()) * threshold.double()
        return (((flat * below).sum(dtype=torch.float64) + tied) / total).unsqueeze(0)

    def react(self, state: PressureState, measured: Sequence[float], clock: Clock) -> PressureState:
        """Return the state with the pace moved towards the line."""
        share = measured[0]
        if not math.isfinite(share):
            return state
        if share == 0.0:
            return state | {"pace": 0.0}
        if state["first_tail"] == 0.0:
            return state | {"first_tail": share}
        first, last = math.log(state["first_tail"]), math.log(self.tail)
        line = first + (last - first) * min(1.0, clock.step / (self.until * clock.steps))
        error = min(1.0, max(-1.0, math.log(share) - line))
        pace = state["pace"] * math.exp(self.gain * error)
        pace = min(self.budget * self.slack, max(self.budget / self.slack, pace))
        return state | {"pace": pace}
