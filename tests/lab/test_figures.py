"""Every figure at a small size: a sound drawing, its numbers, what was found."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from mirrormask.errors import ArgumentError
from mirrormask.lab.figures.figure import Settings, interval
from mirrormask.lab.figures.gallery import FIGURES, PLANS, study_for
from mirrormask.lab.figures.shapes import SHAPES, shaped

SMALL = Settings(seeds=2, steps=200, samples=8, features=16, nonzeros=2, epochs=1)


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_whole(name: str) -> None:
    ticks: list[int] = []
    figure = FIGURES[name](study_for([name], SMALL), lambda: ticks.append(1))
    assert figure.name == name and ticks
    root = ET.fromstring(figure.svg)
    assert root.tag.endswith("svg")
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    assert all(i is not None and i.startswith(f"{name}-") for i in ids)
    texts = [e.text for e in root.iter() if e.tag.endswith("text") and e.text]
    assert len(texts) > 5  # axes and legend are words, not outlines
    table = list(csv.reader(io.StringIO(figure.csv())))
    assert tuple(table[0]) == figure.columns
    assert len(table) == len(figure.rows) + 1 > 10
    assert all(len(row) == len(figure.columns) for row in table)
    assert figure.caption and all(f.text and f.numbers for f in figure.findings)


def test_a_figure_is_the_same_twice() -> None:
    first, again = (FIGURES["start"](study_for([], SMALL), lambda: None) for _ in range(2))
    assert first.svg == again.svg and first.csv() == again.csv()


def test_planning_together_changes_nothing() -> None:
    """A run's path must not depend on which other runs share its tensor."""
    together = study_for(PLANS, SMALL)
    for name, plan in PLANS.items():
        runs = plan(SMALL)
        alone = study_for([], SMALL).trace(runs, lambda: None)
        shared = together.trace(runs, lambda: None)
        assert alone.names == shared.names == tuple(run.name for run in runs), name
        np.testing.assert_allclose(shared.error, alone.error, rtol=1e-9)
        np.testing.assert_allclose(shared.x, alone.x, rtol=1e-9, atol=1e-12)


def test_runs_asked_for_later_are_added() -> None:
    study = study_for(["start"], SMALL)
    runs = PLANS["start"](SMALL)
    first = study.trace(runs, lambda: None)
    more = study.trace(PLANS["regularisers"](SMALL), lambda: None)
    again = study.trace(runs, pytest.fail)
    np.testing.assert_array_equal(first.error, again.error)
    assert more.error.shape[2] == len(more.names)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_spend_the_budget_asked_for(shape: str) -> None:
    schedule = shaped(shape, 2.0, 5.0, 40.0)  # type: ignore[arg-type]
    assert schedule.budget(5.0) == pytest.approx(2.0, rel=1e-12)


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    _, low, high = interval(rng.normal(size=(4000, 5)))
    assert 0.93 < np.mean((low < 0) & (high > 0)) < 0.97


@pytest.mark.parametrize("bad", [{"seeds": 1}, {"steps": 10}, {"epochs": 0}, {"lr": 2.0}])
def test_bad_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match=f"{next(iter(bad))}="):
        Settings(**bad)  # type: ignore[arg-type]
