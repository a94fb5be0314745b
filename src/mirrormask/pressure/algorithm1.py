"""The paper's controller: raise the strength while training goes well, lower it otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mirrormask.errors import ArgumentError
from mirrormask.pressure.base import Clock, Pressure, PressureState, TrainingSignal, check_strength


@dataclass(frozen=True, kw_only=True)
class Algorithm1(Pressure):
    """Algorithm 1 of the paper, driven by ``optimizer.observe(train_accuracy)``.

    After each epoch: if the training accuracy is no lower than after the epoch before, the sum of
    ``|x|`` is at least ``floor`` and at most half of the steps are done, ``alpha`` is multiplied
    by ``delta``, else divided by it. With T epochs the peak is at most
    ``alpha_init * delta**(T / 2)`` and the last value at most ``alpha_init``. It has no sparsity
    target: the cut at the end makes the sparsity exact.

    Source: Jacobs & Burkholz (ICLR 2025), Algorithm 1.

    Args:
        alpha_init: Strength of the first epoch.
        delta: Factor of a change, at least 1.
        floor: The paper's K: below this sum of ``|x|`` the strength only falls.
        floor_unit: ``"start"`` reads ``floor`` as a fraction of the sum at the start,
            ``"absolute"`` as the sum itself.
        tolerance: Loss of accuracy, in its own unit, that still counts as no loss.

    Example:
        >>> rule = Algorithm1(alpha_init=1e-4, delta=2.0, floor=0.1)
        >>> state = rule.start(l1=100.0)
        >>> for step, accuracy in [(1, 0.5), (2, 0.6), (3, 0.7), (4, 0.8)]:
        ...     signal = TrainingSignal(accuracy=accuracy, l1=50.0, step=step)
        ...     state = rule.observe(state, signal, steps=4)
        ...     print(rule.alpha(state, Clock(step=step, steps=4, rate=0.1)))
        0.0002
        0.0004
        0.0002
        0.0001
    """

    alpha_init: float = 1e-4
    delta: float = 1.1
    floor: float = 0.0
    floor_unit: Literal["start", "absolute"] = "start"
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("alpha_init", self.alpha_init)
        check_strength("floor", self.floor)
        check_strength("tolerance", self.tolerance)
        if not (math.isfinite(self.delta) and self.delta >= 1):
            raise ArgumentError(f"delta={self.delta} would invert the rule: use a number >= 1.")
        if self.floor_unit not in ("start", "absolute"):
            raise ArgumentError(
                f"floor_unit={self.floor_unit!r} is unknown: use 'start' or 'absolute'."
            )

    def start(self, l1: float) -> PressureState:
        """Return exponent 0, the floor as a sum, and an accuracy that any epoch reaches."""
        floor = self.floor * l1 if self.floor_unit == "start" else self.floor
        return {"exponent": 0.0, "accuracy": -math.inf, "floor": floor}

    def alpha(self, state: PressureState, clock: Clock) -> float:
        """Return ``alpha_init * delta**exponent``: exact, since the exponent is whole."""
        return self.alpha_init * math.pow(self.delta, state["exponent"])

    def observe(self, state: PressureState, signal: TrainingSignal, steps: int) -> PressureState:
        """Return the state after an epoch with this accuracy and this sum of ``|x|``."""
        rises = (
            signal.accuracy >= state["accuracy"] - self.tolerance
            and signal.l1 >= state["floor"]
            and 2 * signal.step <= steps
        )
        return state | {
            "exponent": state["exponent"] + (1.0 if rises else -1.0),
            "accuracy": signal.accuracy,
        }
