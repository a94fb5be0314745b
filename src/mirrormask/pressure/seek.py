"""The strength is found from the sparsity asked for: nothing to tune."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.masking import zeros_asked
from mirrormask.pressure.base import Pressure, PressureState, check_fraction


@dataclass(frozen=True, kw_only=True)
class SeekTarget(Pressure):
    """Feedback on the tail: the share of ``sum |x|`` held by the weights that will be cut.

    The tail falls along a straight line in its logarithm, from what it is at the start to ``tail``
    at the fraction ``until`` of the run. Every ``every``-th part of the way the strength is
    multiplied by ``exp(gain * error)``, where the error is the clipped logarithm of tail over
    line; it starts from ``kick`` times the mean absolute gradient, below which a weight decays. A
    measurement is used one interval later, so no step waits for the device.

    Args:
        tail: Share of the tail when the pressure ends, in (0, 1).
        until: Fraction of the run after which the pressure is off, in (0, 1].
        intervals: Number of measurements up to ``until``.
        gain: How sharply the strength reacts.
        kick: First strength over half the mean absolute gradient.

    Raises:
        ArgumentError: If an argument is outside its domain.
    """

    tail: float = 0.05
    until: float = 0.5
    intervals: int = 100
    gain: float = 0.3
    kick: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("until", self.until)
        if not 0 < self.tail < 1:
            raise ArgumentError(f"tail={self.tail} is not a share: use a number in (0, 1).")
        if self.intervals < 1:
            raise ArgumentError(f"intervals={self.intervals} is too few: use at least 1.")
        for name in ("gain", "kick"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ArgumentError(f"{name}={getattr(self, name)} must be positive and finite.")

    def start(self, l1: float) -> PressureState:
        """Return no strength: the first comes with the first measurement."""
        return {"alpha": 0.0, "first_tail": 0.0}

    def alpha(self, state: PressureState, step: int, steps: int) -> float:
        """Return the strength found so far, or 0 once ``until`` has passed."""
        return state["alpha"] if step < self.until * steps else 0.0

    def measures_at(self, step: int, steps: int) -> bool:
        """Return True at ``intervals`` evenly spaced steps before ``until``."""
        every = max(1, round(self.until * steps / self.intervals))
        return step % every == 0 and step < self.until * steps

    def measure(
        self, weights: Sequence[Tensor], grads: Sequence[Tensor], sparsity: float
    ) -> Tensor:
        """Return the share of the tail and the mean absolute gradient."""
        flat = torch.cat([weight.flatten() for weight in weights]).abs_()
        count = zeros_asked(sparsity, flat.numel())
        total = flat.sum(dtype=torch.float64)
        if count == 0:
            share = torch.zeros_like(total)
        else:
            threshold = flat.kthvalue(count).values
            below = flat < threshold
            tied = (count - below.sum()) * threshold.double()
            share = ((flat * below).sum(dtype=torch.float64) + tied) / total
        mean = torch.cat([grad.flatten() for grad in grads]).abs_().mean(dtype=torch.float64)
        return torch.stack((share, mean))

    def react(
        self, state: PressureState, measured: Sequence[float], step: int, steps: int
    ) -> PressureState:
        """Return the state with the strength moved towards the line."""
        share, gradient = measured
        if not (share > 0 and math.isfinite(share) and math.isfinite(gradient)):
            return state
        if state["first_tail"] == 0.0:
            return {"alpha": self.kick * gradient / 2, "first_tail": share}
        first, last = math.log(state["first_tail"]), math.log(self.tail)
        line = first + (last - first) * min(1.0, step / (self.until * steps))
        error = min(1.0, max(-1.0, math.log(share) - line))
        return state | {"alpha": state["alpha"] * math.exp(self.gain * error)}
