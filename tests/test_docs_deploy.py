"""The figures of docs/deploy.md are those that were measured."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_measured_part_of_the_page_is_made_from_raw_figures() -> None:
    tables = runpy.run_path(str(ROOT / "benchmarks" / "deploy_tables.py"))
    page = (ROOT / "docs" / "deploy.md").read_text()
    assert tables["filled"](page) == page
