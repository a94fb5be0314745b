"""The documentation shows every claim as it is measured now."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mirrormask.lab.checks.check import Result
from mirrormask.lab.claims import CHECKS
from mirrormask.lab.tables import claims_csv, claims_markdown

DOCUMENT = Path(__file__).parents[2] / "docs" / "theory.md"


def rows(markdown: str) -> dict[str, list[str]]:
    found = {}
    for line in markdown.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 8 and re.fullmatch(r"\d+[ab]?", cells[0]):
            found[cells[0]] = cells
    return found


def test_table_of_claims_is_up_to_date() -> None:
    results = [Result(check, check.tolerance, float("nan"), 0.0) for check in CHECKS]
    shown, current = rows(DOCUMENT.read_text(encoding="utf-8")), rows(claims_markdown(results))
    assert list(shown) == list(current)
    for number, cells in current.items():
        # All but the measured numbers, which differ a little from machine to machine.
        for column in (1, 2, 4, 6):
            assert shown[number][column] == cells[column], number
        assert shown[number][5] == "pass"


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.number)
def test_numbers_shown_meet_the_tolerance(check: object) -> None:
    by_number = {c.number: c for c in CHECKS}
    number = check.number  # type: ignore[attr-defined]
    cells = rows(DOCUMENT.read_text(encoding="utf-8"))[number]
    assert by_number[number].meets(float(cells[3]))
    assert not by_number[number].meets(float(cells[7]))


def test_failures_are_shown_as_such() -> None:
    check = CHECKS[0]
    missed = [Result(check, 2 * check.tolerance, float("nan"), 0.0)]
    assert "**FAIL**" in claims_markdown(missed)
    assert ",False," in claims_csv(missed)


def test_examples_run() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 60))
    names = {"X": x, "y": x[:, 3] - x[:, 5] + 0.1 * rng.normal(size=30)}
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.S)
    assert blocks
    for block in blocks:
        exec(block, names)
    assert names["coefs"].shape == (60, 4)
