"""What the tables of all pages are made with: raw results, and cells of Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def data(name: str) -> dict[str, Any]:
    """Return a file of benchmarks/results."""
    found: dict[str, Any] = json.loads((HERE / "results" / f"{name}.json").read_text())
    return found


def times(ratio: float) -> str:
    """Write a ratio with as many digits as a measurement of some percent has."""
    return f"{ratio:.0f}x" if ratio >= 19.5 else f"{ratio:.1f}x"


def percent(share: float) -> str:
    """Write a share, such as 0.9, as a whole percentage."""
    return f"{share:.0%}".replace("%", " %")


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    headings = list(headings)
    lines = [headings, ["---"] * len(headings), *[list(row) for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
