"""What one run does: paired starts, the right data, the right optimizer, every outcome."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from mirrormask.masking import ProjectAndFreeze
from mirrormask.methods import Method, register
from mirrormask.methods.registry import unregister
from mirrormask.optimizer import Recipe
from mirrormask.study.compare import execute as module
from mirrormask.study.compare.execute import executor
from mirrormask.study.compare.memory import PeakMemory
from mirrormask.study.compare.plan import Plan, Run
from mirrormask.study.compare.settings import CompareSettings
from mirrormask.study.compare.settings_file import from_mapping
from mirrormask.study.data import Split, load
from mirrormask.study.fit import FitResult
from mirrormask.study.order import stream_seed


def settings(problem: dict[str, Any] | None = None, **changes: Any) -> CompareSettings:
    base = {"name": "digits", "data": "digits", "model": "mlp", "epochs": 2, "batch_size": 100}
    plain = {
        "name": "t",
        "problems": [base | (problem or {})],
        "methods": ["gmp"],
        "sparsities": [0.9],
        "trials": 2,
        "seeds": 2,
    }
    return from_mapping(plain | changes)


def runs(chosen: CompareSettings, phase: str = "final") -> dict[tuple[str, int], Run]:
    """Return one run for each method and seed."""
    if phase == "final":
        chosen = replace(chosen, trials=1)
    return {(run.cell.method, run.seed): run for run in Plan(chosen).runs({})}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Collect what training is called with, and the state it starts from."""
    calls: list[dict[str, Any]] = []
    original = module.fit

    def spy(model: nn.Module, batches: Any, optimizer: Any, **options: Any) -> FitResult:
        batches.set_epoch(1)
        calls.append(
            {
                "weights": [p.detach().clone() for p in model.parameters()],
                "first": next(iter(batches)),
                "random": torch.get_rng_state(),
                "optimizer": optimizer,
                **options,
            }
        )
        return original(model, batches, optimizer, **options)

    monkeypatch.setattr(module, "fit", spy)
    return calls


@pytest.fixture
def made_up() -> Iterator[None]:
    """Register methods for tests, and take them out again."""
    records = (
        Method(name="half", summary="", source="", build=lambda: Recipe(masking=HALF)),
        Method(name="steps-adam", summary="", source="", build=Recipe, base="adam"),
    )
    for record in records:
        register(record)
    yield
    for record in records:
        unregister(record.name)


HALF = ProjectAndFreeze(at=0.5)


def test_a_seed_fixes_start_order_and_draws_for_all_methods(seen: list[dict[str, Any]]) -> None:
    chosen = settings()
    execute = executor(chosen, None)
    for key in (("dense", 0), ("gmp", 0), ("gmp", 1)):
        execute(runs(chosen)[key])
    dense, gmp, other = seen
    assert all(map(torch.equal, dense["weights"], gmp["weights"]))
    assert torch.equal(dense["first"][0], gmp["first"][0])
    assert torch.equal(dense["random"], gmp["random"])
    # Draws in training do not depend on how many the first weights took.
    torch.manual_seed(stream_seed(0))
    assert torch.equal(dense["random"], torch.get_rng_state())
    assert not torch.equal(gmp["weights"][0], other["weights"][0])
    assert not torch.equal(gmp["first"][0], other["first"][0])


def test_tuning_never_sees_the_test_part_and_final_runs_not_the_validation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = load("digits", validation=0.25)
    # Labels that nobody can learn show which part was judged.
    wrong = {
        part: replace(data, **{part: Split(split.images, (split.labels + 1) % 10)})
        for part, split in (("test", data.test), ("validation", data.validation))
    }
    chosen = settings(problem={"epochs": 8}, validation=0.25)
    found = {}
    for part, poisoned in wrong.items():
        asked: list[float] = []

        def loaded(name: str, *, root: Any, validation: float, poisoned: Any = poisoned,
                   asked: list[float] = asked) -> Any:  # fmt: skip
            asked.append(validation)
            return poisoned

        monkeypatch.setattr(module, "load", loaded)
        execute = executor(chosen, None)
        found[part, "tuning"] = execute(runs(chosen, "tuning")["dense", 1000])["accuracy"]
        found[part, "final"] = execute(runs(chosen)["dense", 0])["accuracy"]
        assert asked == [0.25], "data are loaded once"
    assert found["test", "tuning"] > 0.9
    assert found["test", "final"] < 0.1
    assert found["validation", "tuning"] < 0.1
    assert found["validation", "final"] > 0.9


def test_result_counts_what_is_there() -> None:
    chosen = settings()
    dense, sparse = (executor(chosen, None)(runs(chosen)[method, 0]) for method in ("dense", "gmp"))
    weights = 64 * 300 + 300 * 100 + 100 * 10
    assert (dense["zeros"], dense["weights"]) == (0, weights)
    assert (sparse["zeros"], sparse["weights"]) == (round(0.9 * weights), weights)
    assert sum(sparse["zeros_by_tensor"].values()) == sparse["zeros"]
    assert dense["flops"] == dense["dense_flops"] == sparse["dense_flops"] > sparse["flops"]
    assert dense["inference_flops_left"] == 1.0
    # In a network of linear layers every weight costs the same.
    assert sparse["inference_flops_left"] == pytest.approx(0.1, abs=1e-3)
    assert dense["chance"] == 0.1
    assert dense["measured"]["seconds"] > 0
    assert dense["versions"]["torch"] == torch.__version__
    assert dense["epochs"] == 2


@pytest.mark.parametrize(
    ("method", "problem", "kind", "decay"),
    [
        ("dense", {}, SGD, 5e-4),
        ("gmp", {}, SGD, 5e-4),
        ("pilot", {}, SGD, 5e-4),
        ("pilot-factors", {}, SGD, 0.0),
        ("steps-adam", {}, AdamW, 5e-4),
        ("dense", {"optimizer": "adamw"}, AdamW, 5e-4),
        ("gmp", {"optimizer": "adamw", "weight_decay": 0.25}, AdamW, 0.25),
    ],
)
def test_optimizer_of_each_method(
    method: str,
    problem: dict[str, Any],
    kind: type,
    decay: float,
    seen: list[dict[str, Any]],
    made_up: None,
) -> None:
    chosen = settings(problem=problem, methods=["gmp", "pilot", "pilot-factors", "steps-adam"])
    run = runs(chosen)[method, 0]
    executor(chosen, None)(run)
    optimizer = seen[0]["optimizer"]
    base = optimizer if method == "dense" else optimizer.base
    assert isinstance(base, kind)
    matrices, vectors = base.param_groups
    assert matrices["weight_decay"] == decay
    assert vectors["weight_decay"] == 0.0
    assert {p.ndim for p in vectors["params"]} == {1}
    assert run.lr == (1e-3 if method == "steps-adam" else 0.05)


def test_run_that_diverges_or_is_refused_is_a_result() -> None:
    chosen = settings(methods=["gmp", "gmp-2to4"], sparsities=[0.5])
    execute = executor(chosen, None)
    fast = execute(replace(runs(chosen)["dense", 0], lr=1e20))
    assert fast["outcome"] == "diverged"
    assert fast["accuracy"] is None
    assert "lower the learning rate" in fast["error"]
    assert fast["chance"] == 0.1
    # Two of four cannot be nine of ten.
    run = runs(chosen)["gmp-2to4", 0]
    refused = execute(replace(run, cell=replace(run.cell, sparsity=0.9)))
    assert refused["outcome"] == "refused"
    assert "0.9" in refused["error"]


def test_equal_flops_train_longer(seen: list[dict[str, Any]], made_up: None) -> None:
    chosen = settings(problem={"epochs": 4}, methods=["half"], budget="flops")
    execute = executor(chosen, None)
    dense, half = (execute(runs(chosen)[method, 0]) for method in ("dense", "half"))
    # Half of the run at a tenth of the cost: 1 / 0.55 of the epochs.
    assert [call["epochs"] for call in seen] == [4, 7]
    assert half["epochs"] == 7
    assert half["flops"] == pytest.approx(dense["flops"], rel=0.06)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can start a peak anew")
def test_memory_starts_anew() -> None:
    memory = PeakMemory()
    rest = memory.peak()
    block = torch.ones(40_000_000)  # 160 MB
    high = memory.peak()
    assert rest + 150_000_000 < high < rest + 250_000_000
    del block
    assert memory.peak() > high - 10_000_000  # the kernel counts in batches
    assert PeakMemory().peak() < high - 100_000_000
