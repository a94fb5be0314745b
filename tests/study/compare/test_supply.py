"""Fewer images when asked, streamed or in memory, and the labels of a run as it was told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mirrormask.study.compare import execute as module
from mirrormask.study.compare.execute import executor
from mirrormask.study.compare.plan import Plan
from mirrormask.study.compare.settings_file import from_mapping
from mirrormask.study.compare.supply import limited
from mirrormask.study.data import load
from mirrormask.study.fit import FitResult
from mirrormask.study.image_folder import ImageFiles, ImageFolder


def test_limit_takes_evenly_from_all_classes() -> None:
    data = load("digits", validation=0.2)
    few = limited(data, 50)
    assert torch.bincount(few.train.labels).tolist() == [5] * 10
    assert torch.equal(few.test.images, data.test.images)
    assert len(limited(data, 10**6).train.labels) == len(data.train.labels)
    assert limited(data, None) is data
    # Each image keeps its own label.
    places = [int((data.train.images == image).flatten(1).all(1).nonzero()[0])
              for image in few.train.images]  # fmt: skip
    assert torch.equal(data.train.labels[places], few.train.labels)


def test_limit_of_text_and_of_files() -> None:
    text = limited(load("stdlib-text"), 7)
    assert isinstance(text.train.labels, torch.Tensor)
    assert text.train.labels.shape == (7, 64)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    files = ImageFiles(paths=tuple(Path(f"{i}.png") for i in range(8)), labels=labels)
    folder = ImageFolder(train=files, validation=files, test=files, classes=("a", "b"))
    few = limited(folder, 4)
    assert isinstance(few, ImageFolder)
    assert few.train.labels.tolist() == [0, 0, 1, 1]
    assert [labels[int(path.stem)].item() for path in few.train.paths] == [0, 0, 1, 1]
    assert len(few.test) == 8


def test_a_run_gets_its_schedule_and_smoothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    original = module.fit

    def spy(model: nn.Module, batches: Any, optimizer: Any, **options: Any) -> FitResult:
        seen.append({"steps": len(batches), **options})
        return original(model, batches, optimizer, **options)

    monkeypatch.setattr(module, "fit", spy)
    problem = {"name": "d", "data": "digits", "model": "mlp", "epochs": 1, "batch_size": 10,
               "images": 60, "schedule": "step", "warmup_epochs": 0.5, "drops": [0.5],
               "label_smoothing": 0.25}  # fmt: skip
    chosen = from_mapping(
        {"name": "t", "problems": [problem], "methods": ["gmp"], "sparsities": [0.5], "trials": 1}
    )
    executor(chosen, None)(next(Plan(chosen).runs({})))
    (call,) = seen
    assert call["steps"] == 6
    assert call["label_smoothing"] == 0.25
    rates = [call["rates"](step, 12) for step in range(12)]
    assert rates == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
