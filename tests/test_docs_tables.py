"""The figures of the pages are those that were measured."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["deploy.md", "loops.md"])
def test_every_measured_part_of_a_page_is_made_from_raw_figures(page: str) -> None:
    tables = runpy.run_path(str(ROOT / "benchmarks" / "page_tables.py"))
    assert tables["filled"](page) == (ROOT / "docs" / page).read_text()
