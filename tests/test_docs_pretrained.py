"""The tables of docs/pretrained.md are those of the raw runs."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_row_of_the_page_is_made_from_raw_runs() -> None:
    made = runpy.run_path(str(ROOT / "benchmarks" / "pretrained_tables.py"))["tables"]()
    page = (ROOT / "docs" / "pretrained.md").read_text(encoding="utf-8")
    for lines in made:
        assert "\n".join(lines) in page, lines[0]
