"""The page on loops and models shows code that runs and figures that were measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "loops.md").read_text(encoding="utf-8")


def test_its_code_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    assert blocks
    for block in blocks:
        exec(block, {})


def test_its_examples_exist() -> None:
    links = re.findall(r"\]\(\.\./(examples/\w+\.py)\)", PAGE)
    assert len(set(links)) == 4
    assert all((ROOT / link).is_file() for link in links)


def test_its_step_times_are_the_measured_ones() -> None:
    measured = json.loads((ROOT / "benchmarks/results/step_time.json").read_text())["models"]
    rows = re.findall(r"^\| (?:(SGD|AdamW)[^:|]*: )?`(Mirror|Factors)` \|(.*)\|$", PAGE, flags=re.M)
    base, seen = "", 0
    for named, geometry, cells in rows:
        base = named.lower() or base
        for size, cell in zip(("1m", "10m", "100m"), cells.split("|"), strict=True):
            row = measured[f"transformer-{size}"][base]["contenders"][geometry.lower()]
            assert float(cell) == round(row["ratio"], 3)
            seen += 1
    assert seen == 12
