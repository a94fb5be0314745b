"""A claim with its number: what is measured, against what, and how far it may be off."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Sense = Literal["at most", "at least"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One claim that can be measured.

    Attributes:
        number: Number of the claim, with a letter where it has parts.
        statement: What is claimed.
        oracle: What the number is measured against.
        sense: Whether the measured number may be at most or must be at least the tolerance.
        tolerance: The bound.
        measure: Returns the number.
        alteration: The constant that the claim guards, changed; what a wrong one would look like.
        altered: Returns the number with that constant changed: it must miss the tolerance.
    """

    number: str
    statement: str
    oracle: str
    sense: Sense
    tolerance: float
    measure: Callable[[], float]
    alteration: str
    altered: Callable[[], float]

    def meets(self, value: float) -> bool:
        """Return whether ``value`` is within the tolerance; NaN never is."""
        return value <= self.tolerance if self.sense == "at most" else value >= self.tolerance


@dataclass(frozen=True)
class Result:
    """A check with its measured numbers.

    Attributes:
        check: The check.
        value: The number measured.
        altered: The number with the guarded constant changed.
        seconds: Time taken.
    """

    check: Check
    value: float
    altered: float
    seconds: float

    @property
    def passed(self) -> bool:
        """Return whether the claim holds and the check would have noticed if it did not."""
        return self.check.meets(self.value) and not self.check.meets(self.altered)


def run_check(check: Check) -> Result:
    """Measure a claim, as stated and with its constant changed.

    Example:
        >>> check = Check(number="0", statement="one is small", oracle="counting",
        ...               sense="at most", tolerance=1.0, measure=lambda: 1.0,
        ...               alteration="two", altered=lambda: 2.0)
        >>> run_check(check).passed
        True
    """
    began = time.perf_counter()
    value, altered = float(check.measure()), float(check.altered())
    return Result(check, value, altered, time.perf_counter() - began)
