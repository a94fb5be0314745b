"""Claims 20-22 and 24, on the optimizer and the controller that train networks."""

from __future__ import annotations

import pytest

from mirrormask.lab.checks.check import Check, run_check
from mirrormask.lab.claims import CHECKS


@pytest.mark.parametrize(
    "check",
    [c for c in CHECKS if c.number.rstrip("ab") in {"20", "21", "22", "24"}],
    ids=lambda c: c.number,
)
def test_claim_holds_and_would_fail_with_another_constant(check: Check) -> None:
    result = run_check(check)
    assert check.meets(result.value), f"{check.statement}: {result.value}"
    assert not check.meets(result.altered), f"{check.alteration} went unnoticed: {result.altered}"
