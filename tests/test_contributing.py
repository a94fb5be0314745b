"""CONTRIBUTING's complete method: what it shows is run as it stands."""

from __future__ import annotations

import itertools
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import mirrormask as mm
from mirrormask.methods import unregister

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
LINES = 30


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Path]:
    lines = PAGE.read_text().split("## Adding a method")[1].splitlines()
    after = itertools.dropwhile(lambda line: line != "```python", lines)
    code = list(itertools.takewhile(lambda line: line != "```", itertools.islice(after, 1, None)))
    assert 10 < len(code) <= LINES
    file = tmp_path / "cube.py"
    file.write_text("\n".join(code) + "\n")
    yield file
    if "cube" in mm.METHODS:
        unregister("cube")


def test_the_method_shown_trains_to_the_exact_target(shown: Path) -> None:
    runpy.run_path(str(shown))
    torch.manual_seed(0)
    model = torch.nn.Linear(20, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    optimizer = mm.sparsify(optimizer, model, sparsity=0.9, steps=30, method="cube")
    inputs, wanted = torch.randn(64, 20), torch.randn(64, 10)
    losses = []
    for _ in range(30):
        loss = (model(inputs) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[3] < losses[0]
    assert optimizer.finalize().zeros == 180
