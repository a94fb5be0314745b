"""Claims 1-19 and 23 against their oracles, with their constants right and wrong."""

from __future__ import annotations

import pytest

from mirrormask.lab.checks.check import Check, run_check
from mirrormask.lab.claims import CHECKS, measure_claims, number_of

TRAINING = {20, 21, 22, 24}


@pytest.mark.parametrize(
    "check", [c for c in CHECKS if number_of(c) not in TRAINING], ids=lambda c: c.number
)
def test_claim_holds_and_would_fail_with_another_constant(check: Check) -> None:
    result = run_check(check)
    assert check.meets(result.value), f"{check.statement}: {result.value}"
    assert not check.meets(result.altered), f"{check.alteration} went unnoticed: {result.altered}"


def test_all_24_claims_are_there_once() -> None:
    assert sorted({number_of(c) for c in CHECKS}) == list(range(1, 25))
    assert len({c.number for c in CHECKS}) == len(CHECKS)
    parts = [(number_of(c), c.number) for c in CHECKS]
    assert parts == sorted(parts)


def test_nan_never_passes() -> None:
    for check in CHECKS:
        assert not check.meets(float("nan"))


def test_measuring_reports_each_check_as_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = tuple(c for c in CHECKS if c.number in {"7", "12"})
    monkeypatch.setattr("mirrormask.lab.claims.CHECKS", cheap)
    done: list[str] = []
    results = measure_claims(lambda check: done.append(check.number))
    assert done == [r.check.number for r in results] == ["7", "12"]
    assert all(r.passed and r.seconds >= 0 for r in results)
