"""What the page on many machines says of each method is what happens on shards."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import mirrormask as mm
from mirrormask.optimizer.sharding import _reason

PAGE = Path(__file__).parents[2] / "docs" / "many-machines.md"


def told(answer: str) -> list[str]:
    """Return the names, or patterns of names, in the rows that end with an answer."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    rows = [row for row in rows if row.rstrip(" |").endswith(f"| {answer}")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize("method", mm.METHODS)
def test_the_page_tells_which_methods_work_on_shards(method: str) -> None:
    base = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    works = _reason(mm.METHODS[method].recipe, base) is None
    structured = method in ("gmp-2to4", "gmp-block", "gmp-rows")  # told in words
    inside = method.removeprefix("pilot-") if method not in told("yes") else method
    assert works == any(fnmatch.fnmatch(inside, name) for name in told("yes"))
    refused = any(fnmatch.fnmatch(method, name) for name in told("refused"))
    assert works != (refused or structured)
