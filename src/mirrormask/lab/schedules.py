"""Regularisation over time: the strength alpha(t) and its exact integral, the budget A(t)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mirrormask.errors import ArgumentError

Array = npt.NDArray[np.float64]


class Schedule(Protocol):
    """A strength over time with its exact integral."""

    def alpha(self, t: float) -> float:
        """Return the strength at time ``t >= 0``."""

    def budget(self, t: float) -> float:
        """Return the integral of the strength from 0 to ``t``."""

    @property
    def total(self) -> float:
        """Return the integral to infinity; ``inf`` if the schedule is not integrable."""


def _check(strength: float, unit: float) -> None:
    if not (math.isfinite(strength) and strength >= 0):
        raise ArgumentError(f"strength={strength} is no schedule: use a finite number >= 0.")
    if not (math.isfinite(unit) and unit > 0):
        raise ArgumentError(f"unit={unit} is no time: use a finite number > 0.")


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The same strength for ever: exactly LASSO, and outside the convergence theorem.

    Example:
        >>> Constant(strength=0.1).budget(5.0), Constant(strength=0.1).total
        (0.5, inf)
    """

    strength: float

    def __post_init__(self) -> None:
        _check(self.strength, 1.0)

    def alpha(self, t: float) -> float:
        """Return the strength."""
        return self.strength

    def budget(self, t: float) -> float:
        """Return ``strength * t``."""
        return self.strength * t

    @property
    def total(self) -> float:
        """Return infinity, or 0 when switched off."""
        return math.inf if self.strength > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Harmonic:
    """``strength / k`` with ``k = 1 + t / unit``: decays, yet is not integrable.

    Example:
        >>> round(Harmonic(strength=1.0, unit=2.0).budget(2.0), 4)
        1.3863
    """

    strength: float
    unit: float = 1.0

    def __post_init__(self) -> None:
        _check(self.strength, self.unit)

    def alpha(self, t: float) -> float:
        """Return ``strength / (1 + t / unit)``."""
        return self.strength / (1.0 + t / self.unit)

    def budget(self, t: float) -> float:
        """Return ``strength * unit * log(1 + t / unit)``."""
        return self.strength * self.unit * math.log1p(t / self.unit)

    @property
    def total(self) -> float:
        """Return infinity, or 0 when switched off."""
        return math.inf if self.strength > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Quadratic:
    """``strength / k**2`` with ``k = 1 + t / unit``: integrable.

    Example:
        >>> Quadratic(strength=1.0, unit=2.0).total
        2.0
    """

    strength: float
    unit: float = 1.0

    def __post_init__(self) -> None:
        _check(self.strength, self.unit)

    def alpha(self, t: float) -> float:
        """Return ``strength / (1 + t / unit)**2``."""
        return self.strength / (1.0 + t / self.unit) ** 2

    def budget(self, t: float) -> float:
        """Return ``strength * unit * (1 - 1 / (1 + t / unit))``."""
        return self.strength * t / (1.0 + t / self.unit)

    @property
    def total(self) -> float:
        """Return ``strength * unit``."""
        return self.strength * self.unit


@dataclass(frozen=True, kw_only=True)
class Geometric:
    """``strength * ratio**(t / unit)``: integrable, an exponential in continuous time.

    Example:
        >>> round(Geometric(strength=1.0, ratio=0.95).total, 3)
        19.496
    """

    strength: float
    unit: float = 1.0
    ratio: float = 0.95

    def __post_init__(self) -> None:
        _check(self.strength, self.unit)
        if not 0 < self.ratio < 1:
            raise ArgumentError(f"ratio={self.ratio} does not decay: use a number in (0, 1).")

    @property
    def _rate(self) -> float:
        return -math.log(self.ratio) / self.unit

    def alpha(self, t: float) -> float:
        """Return ``strength * ratio**(t / unit)``."""
        return self.strength * math.exp(-self._rate * t)

    def budget(self, t: float) -> float:
        """Return ``strength * (1 - ratio**(t / unit)) / rate``."""
        return -self.strength * math.expm1(-self._rate * t) / self._rate

    @property
    def total(self) -> float:
        """Return ``strength * unit / -log(ratio)``."""
        return self.strength / self._rate


def total_budget(schedule: Schedule) -> float:
    """Return the budget spent in infinite time, where the limit of the flow is known.

    Args:
        schedule: The strength over time.

    Returns:
        The finite integral of alpha.

    Raises:
        ArgumentError: If the schedule is not integrable, so that the theorem on the limit
            (Jacobs & Burkholz 2025, convergence for a finite integral of alpha) does not apply.

    Example:
        >>> total_budget(Quadratic(strength=3.0))
        3.0
    """
    total = schedule.total
    if not math.isfinite(total):
        raise ArgumentError(
            f"{schedule} is not integrable, so its flow has no limit that the theorem covers: "
            "use Quadratic or Geometric, or ask for the state at a finite time."
        )
    return total


def step_strengths(schedule: Schedule, steps: int, lr: float) -> Array:
    """Return the strength of each step, so that ``lr * sum`` is exactly the budget spent.

    Args:
        schedule: The strength over time.
        steps: Number of steps, at least 1.
        lr: Time a step takes.

    Returns:
        The mean of alpha over each step, shape (steps,).

    Example:
        >>> strengths = step_strengths(Quadratic(strength=1.0), 1000, 0.01)
        >>> round(0.01 * float(strengths.sum()), 9)  # 10 / 11
        0.909090909
    """
    if steps < 1 or not (math.isfinite(lr) and lr > 0):
        raise ArgumentError(f"steps={steps}, lr={lr} make no run: use steps >= 1 and lr > 0.")
    spent = np.array([schedule.budget(lr * k) for k in range(steps + 1)])
    return np.diff(spent) / lr
