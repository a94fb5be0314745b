"""The strength is found from the sparsity asked for: nothing to tune."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.masking import kth_smallest, zeros_asked
from mirrormask.pressure.base import (
    Application,
    Clock,
    Pressure,
    PressureState,
    check_fraction,
)


@dataclass(frozen=True, kw_only=True)
class SeekTarget(Pressure):
    """Press just so hard that the weights to be cut, if nothing holds them, vanish in time.

    The smallest weights up to the target have a largest one, at some distance from zero: the
    proximal amount that would remove it. That distance is spread evenly over the steps that are
    left until the pressure ends, so ``alpha = push * distance / (2 * rate * steps left)``. Weights
    that the loss does not hold then arrive at zero together, those that it holds do not, and the
    strength follows by itself from the size of the weights, the learning rate and the time there
    is. It is measured again and again: where gradients push back, the distance left stays large
    and the strength rises, by ``slack`` at the most. A measurement is used one interval later, so
    that no step waits for the device.

    A run may be too short, or its learning rate too small, for weights to arrive anywhere: such a
    strength then takes from all weights alike what the loss had no time to give. ``bound`` keeps it
    in proportion to what the optimizer moves weights by, and what is still far from zero then is
    cut from there.

    As ``"decay"``, under which no weight arrives at zero, the same holds for the logarithm: the
    largest weight to be cut is to fall to ``tail`` of what it was at the start.

    Args:
        push: Multiple of the strength that would just suffice without gradients.
        slack: Bound on the rise of the strength over its first value, at least 1.
        until: Fraction of the run after which the pressure is off, in (0, 1].
        intervals: Number of measurements up to ``until``.
        bound: Largest strength, as an L1 penalty, in parts of the typical pull of the loss: the
            root mean square of the optimizer's steps with live weights, in units of its rate. None
            for no bound; needs a geometry that moves increments, as the mirrors do.
        tail: For decay, the part of its first size that a weight to be cut falls to, in (0, 1).

    Raises:
        ArgumentError: If an argument is outside its domain.
    """

    application: Application = "proximal"
    push: float = 0.7
    slack: float = 3.0
    until: float = 0.6
    intervals: int = 100
    bound: float | None = None
    tail: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("until", self.until)
        if not 0 < self.tail < 1:
            raise ArgumentError(f"tail={self.tail} is not a part: use a number in (0, 1).")
        if self.intervals < 1:
            raise ArgumentError(f"intervals={self.intervals} is too few: use at least 1.")
        if not (math.isfinite(self.slack) and self.slack >= 1):
            raise ArgumentError(f"slack={self.slack} leaves no room: use a number >= 1.")
        if not (math.isfinite(self.push) and self.push > 0):
            raise ArgumentError(f"push={self.push} moves nothing: use a positive number.")

        if self.bound is not None and not (math.isfinite(self.bound) and self.bound > 0):
            raise ArgumentError(
                f"bound={self.bound} is no bound: use a positive number, or None for none."
            )

    @property
    def asks_for_pull(self) -> bool:
        """Whether there is a bound."""
        return self.bound is not None

    def start(self, l1: float) -> PressureState:
        """Return no pace: the first comes with the first measurement."""
        return {"pace": 0.0, "first_pace": 0.0, "first_distance": 0.0, "largest": math.inf}

    def alpha(self, state: PressureState, clock: Clock) -> float:
        """Return the strength that keeps the pace, or 0 once ``until`` has passed."""
        if not clock.before(self.until) or clock.rate <= 0:
            return 0.0
        return min(state["pace"] / clock.rate, state["largest"])

    def measures_at(self, clock: Clock) -> bool:
        """Return True at ``intervals`` evenly spaced steps before ``until``."""
        return clock.is_one_of(self.intervals, self.until)

    def measure(self, distances: Sequence[Tensor], sparsity: float) -> Tensor:
        """Return the largest distance among the weights to be cut."""
        zeros = zeros_asked(sparsity, sum(distance.numel() for distance in distances))
        if zeros == 0:
            return torch.zeros(1, dtype=distances[0].dtype, device=distances[0].device)
        return kth_smallest(distances, zeros).unsqueeze(0)

    def react(self, state: PressureState, measured: Sequence[float], clock: Clock) -> PressureState:
        """Return the state with the pace that the last measurement asks for."""
        distance, *pull = measured
        largest = state["largest"]
        if self.bound is not None and math.isfinite(pull[0]):
            largest = self.bound * pull[0] / 2.0
        if not math.isfinite(distance):
            return state
        first = state["first_distance"] or distance
        # Near the end the time left would not suffice for anything: a tenth is always there.
        left = max(self.until * clock.steps - clock.step, 0.1 * self.until * clock.steps)
        if self.application != "decay":
            need = distance / 2.0
        else:
            fall = math.log(distance) - math.log(first) if distance > 0 else -math.inf
            need = (fall - math.log(self.tail)) / 4.0
        pace = self.push * max(0.0, need) / left
        first_pace = state["first_pace"] or pace
        return {
            "pace": min(pace, self.slack * first_pace),
            "first_pace": first_pace,
            "first_distance": first,
            "largest": largest,
        }
