"""The figures of the pages are those that were measured."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "page", ["deploy.md", "loops.md", "pretrained.md", "recipe.md", "research/dynamics.md"]
)
def test_every_measured_part_of_a_page_is_made_from_raw_figures(
    page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    tables = runpy.run_path(str(ROOT / "benchmarks" / "page_tables.py"))
    assert page in tables["PAGES"]
    assert tables["filled"](page) == (ROOT / "docs" / page).read_text()
