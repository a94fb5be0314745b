"""The table of claims: each with what it is measured against and how far it may be off.

Every claim is also measured with the constant that it guards changed, by a factor of two where
that makes sense, and must then miss its tolerance. Those are the constants in which printed
versions of this theory disagree with one another.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mirrormask.lab.checks import dynamics_claims, limits_claims, training_claims
from mirrormask.lab.checks.check import Check, Result, run_check


def number_of(check: Check) -> int:
    """Return the number of a claim without the letter of its part.

    Example:
        >>> number_of(CHECKS[0])
        1
    """
    return int(re.sub(r"\D", "", check.number))


CHECKS: tuple[Check, ...] = tuple(
    sorted(
        (*dynamics_claims.CHECKS, *limits_claims.CHECKS, *training_claims.CHECKS),
        key=number_of,
    )
)
"""All claims, by number; the parts of a claim in the order of their letters."""


def measure_claims(on_done: Callable[[Check], object] | None = None) -> list[Result]:
    """Measure every claim, with its constants right and wrong.

    Args:
        on_done: Called with each check when it is done, for a progress bar.

    Returns:
        One result a check, in order.
    """
    results = []
    for check in CHECKS:
        results.append(run_check(check))
        if on_done is not None:
            on_done(check)
    return results
