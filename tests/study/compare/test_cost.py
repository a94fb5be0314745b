"""The planned cost: against counts by hand, and against what runs really do."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mirrormask.cli import run
from mirrormask.study.compare.cost import PUBLISHED, Cost, Sizes, cost_table, planned_cost
from mirrormask.study.compare.execute import executor
from mirrormask.study.compare.options import read_recipe
from mirrormask.study.compare.plan import Plan
from mirrormask.study.compare.settings import CompareSettings
from mirrormask.study.compare.settings_file import from_mapping
from mirrormask.study.data import load

WEIGHTS = 64 * 300 + 300 * 100 + 100 * 10
SIZES = {"digits": Sizes(images=1437, channels=1, image_size=8, classes=10)}


def settings(**changes: Any) -> CompareSettings:
    problem = {"name": "d", "data": "digits", "model": "mlp", "epochs": 4, "batch_size": 100}
    plain = {
        "name": "t",
        "problems": [problem],
        "methods": ["l1-freeze"],
        "sparsities": [0.8, 0.9],
        "trials": 2,
        "seeds": 3,
    }
    return from_mapping(plain | changes)


def by_method(costs: list[Cost]) -> dict[str, Cost]:
    return {cost.method: cost for cost in costs}


def test_cost_by_hand() -> None:
    assert Sizes.of(load("digits")) == SIZES["digits"]
    found = by_method(planned_cost(settings(), SIZES))
    dense, sparse = found["dense"], found["l1-freeze"]
    images = 1437 - 144
    assert (dense.runs, dense.epochs, dense.images) == (5, 20, 20 * images)
    assert (sparse.runs, sparse.epochs, sparse.images) == (10, 40, 40 * images)
    assert dense.weights == sparse.weights == WEIGHTS
    assert dense.parameters == WEIGHTS + 410
    assert dense.flops == dense.masked_flops == 3 * 2 * WEIGHTS * 20 * images
    # Half of each run is frozen: at 80 % in one half of the runs, at 90 % in the other.
    assert sparse.flops == 2 * dense.flops
    assert sparse.masked_flops == pytest.approx(sparse.flops * (1 - (0.4 + 0.45) / 2), rel=1e-3)


def test_overrides_images_and_untuned_runs_count() -> None:
    own = {"l1-freeze": {"epochs": 9, "sparsities": [0.5]}}
    chosen = settings(overrides=own, trials=1, validation=0)
    assert by_method(planned_cost(chosen, SIZES))["l1-freeze"].images == 3 * 9 * 1437
    few = {"name": "d", "data": "digits", "model": "mlp", "epochs": 4, "images": 50}
    assert by_method(planned_cost(settings(problems=[few]), SIZES))["dense"].images == 20 * 50


@pytest.mark.parametrize("budget", ["epochs", "flops"])
def test_plan_is_what_runs_do(budget: str) -> None:
    chosen = settings(budget=budget, trials=1, seeds=1, sparsities=[0.9])
    execute = executor(chosen, None)
    planned = by_method(planned_cost(chosen, SIZES))
    for one in Plan(chosen).runs({}):
        result = execute(one)
        cost = planned[one.cell.method]
        assert cost.epochs == result["epochs"]
        assert cost.flops == result["dense_flops"]
        assert cost.weights == result["weights"]
        assert cost.masked_flops == pytest.approx(result["flops"], rel=0.02)


@pytest.mark.parametrize(
    ("recipe", "weights", "parameters", "giga"),
    [
        ("cifar10-resnet20", 270_896, 272_474, 0.0817),
        ("cifar100-resnet18", None, 11_220_132, 1.11),
        ("imagenet-resnet50", 25_502_912, 25_557_032, 8.18),
    ],
)
def test_full_cost_of_the_recipes(
    recipe: str, weights: int | None, parameters: int, giga: float
) -> None:
    chosen = read_recipe(recipe)
    costs = planned_cost(chosen, PUBLISHED)
    dense = by_method(costs)["dense"]
    (problem,) = chosen.problems
    assert dense.runs == 3
    assert dense.epochs == 3 * problem.epochs
    assert dense.images == 3 * problem.epochs * PUBLISHED[problem.data].images
    assert weights in {None, dense.weights}
    assert dense.parameters == parameters
    # Twice the multiplications that papers give for one image: 41 M, 0.56 G and 4.1 G.
    assert dense.flops / dense.images / 3 == pytest.approx(giga * 1e9, rel=0.01)
    assert sum(cost.runs for cost in costs) == chosen.runs


def test_table_adds_up() -> None:
    one = Cost(problem="p", method="m", runs=2, epochs=30, images=4000, weights=5, parameters=6,
               flops=7e9, masked_flops=8e8)  # fmt: skip
    printed = StringIO()
    Console(width=140, file=printed).print(cost_table([one, one]))
    last = [line for line in printed.getvalue().splitlines() if "all" in line]
    assert last[0].replace("│", " ").split() == ["all", "4", "60", "8,000", "1.4e+10", "1.6e+09"]


def test_plan_only_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["compare", "--recipe", "cifar10-resnet20", "--plan-only"]) == 0
    printed = capsys.readouterr().out
    assert "Planned cost" in printed
    assert "52,650" in printed
    assert "alpha: strength 1e-4" in printed
    # To start it, its data are needed; what is missing shows before anything is made.
    assert run(["compare", "--recipe", "cifar10-resnet20"]) == 2
    assert "no place was given" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "model", "told"),
    [
        ("digits", "mlp", "1,437 training images of 8x8, 10 classes, mlp"),
        ("mnist1d", "cnn1d", "4,000 training signals of length 40, 10 classes, cnn1d"),
        ("stdlib-text", "transformer", "4,000 training texts of 64 out of 96 characters"),
    ],
)
def test_data_are_told_by_what_they_are(
    data: str, model: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", "--data", data, "--model", model, "--plan-only"]) == 0
    assert told in capsys.readouterr().out
