"""The page on loops and models shows code that runs."""

from __future__ import annotations

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
