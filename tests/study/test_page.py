"""The report page: self-contained, honest, and the same for the same run."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
import torch
from safetensors.torch import load_file

from mirrormask.methods import METHODS
from mirrormask.pressure import NoPressure
from mirrormask.study.data import load
from mirrormask.study.fit import evaluate
from mirrormask.study.models import build
from mirrormask.study.result import TrainResult
from mirrormask.study.settings import TrainSettings
from mirrormask.study.train import train


@pytest.fixture(scope="module", params=["pilot", "magnitude", "pilot-mirror"])
def result(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    settings = TrainSettings(
        data="digits", model="cnn", epochs=3, sparsity=0.9, method=request.param, lr=0.02
    )
    threads = torch.get_num_threads()
    try:
        return train(settings, tmp_path_factory.mktemp("run") / "run", resume=False)
    finally:
        torch.set_num_threads(threads)


class Tags(HTMLParser):
    """Collects what a browser would fetch, and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.pictures += tag == "svg"
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data") and value:
                (self.references if value.startswith("#") else self.fetched).append(value)
            if name == "id" and value:
                self.ids.append(value)


def test_page_needs_nothing_else(result: TrainResult) -> None:
    text = (result.folder / "report.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert tags.pictures == 5
    assert not tags.fetched
    assert "<script" not in text
    assert len(tags.ids) == len(set(tags.ids))
    references = {ref[1:] for ref in tags.references} | set(re.findall(r"url\(#([^)]+)\)", text))
    assert references <= set(tags.ids)


def test_page_and_table_say_what_was_measured(result: TrainResult) -> None:
    text = (result.folder / "report.html").read_text(encoding="utf-8")
    assert result.verdict in text
    assert f"{100 * result.dense.test_accuracy:.2f} %" in text
    assert f"{100 * result.sparse.test_accuracy:.2f} %" in text
    for tensor in result.sparse.sparsity_report().tensors:
        assert f"<code>{tensor.name}</code>" in text


def test_model_file_loads_into_the_plain_class(result: TrainResult) -> None:
    tensors = load_file(result.folder / "model.safetensors")
    model = build("cnn", in_channels=1, image_size=8, num_classes=10)
    assert set(model.state_dict()) == set(tensors)
    model.load_state_dict(tensors)
    zeros = sum(int((p == 0).sum()) for p in model.parameters() if p.ndim >= 2)
    weights = sum(p.numel() for p in model.parameters() if p.ndim >= 2)
    assert zeros == round(0.9 * weights) == result.sparse.zeros
    assert evaluate(model, load("digits").test)[0] == result.sparse.test_accuracy


def test_verdict_names_the_loss(result: TrainResult) -> None:
    assert ("within 1.0 point" in result.verdict) == (abs(result.difference) <= 1.0)
    assert f"{result.difference:+.2f}" in result.verdict


def test_twins_start_alike(result: TrainResult) -> None:
    assert result.dense.weights == result.sparse.weights
    assert len(result.dense.epochs) == len(result.sparse.epochs) == 3
    steps = [row[0] for row in result.sparse.pressure]
    assert steps == list(range(len(steps)))
    presses = not isinstance(METHODS[result.sparse.title].recipe.pressure, NoPressure)
    assert (max(row[1] for row in result.sparse.pressure) > 0) == presses
