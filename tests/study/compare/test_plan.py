"""The plan: what is tried, what is chosen, what counts as the same run."""

from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import qmc

from mirrormask.errors import ArgumentError
from mirrormask.masking import AtEnd, GradualCubic
from mirrormask.methods import Method, register
from mirrormask.methods.record import Knob
from mirrormask.methods.registry import unregister
from mirrormask.optimizer import Recipe
from mirrormask.study.compare import problem as problem_module
from mirrormask.study.compare.equal_flops import MOST, equal_flops_epochs
from mirrormask.study.compare.plan import Plan, Result, Run
from mirrormask.study.compare.points import trial_points
from mirrormask.study.compare.settings import CompareSettings
from mirrormask.study.compare.settings_file import from_mapping


def settings(**changes: Any) -> CompareSettings:
    plain = {
        "name": "t",
        "problems": [{"name": "digits", "data": "digits", "model": "mlp"}],
        "methods": ["pilot", "gmp"],
        "sparsities": [0.9, 0.99],
        "trials": 3,
        "seeds": 2,
    }
    return from_mapping(plain | changes)


def result(accuracy: float | None, loss: float | None = 1.0) -> Result:
    return {"outcome": "finished", "accuracy": accuracy, "loss": loss}


def digests(plan: Plan, results: dict[str, Result]) -> dict[str, str]:
    return {run.key: run.digest for run in plan.runs(results)}


def test_points_are_defaults_and_haltons_sequence() -> None:
    knobs = [Knob(name=n, default=0.5, low=0.0, high=1.0, log=False) for n in "abc"]
    found = trial_points(knobs, 7)
    assert found[0] == {"a": 0.5, "b": 0.5, "c": 0.5}
    halton = qmc.Halton(d=3, scramble=False)
    halton.fast_forward(2)
    for ours, theirs in zip(found[1:], halton.random(6), strict=True):
        assert list(ours.values()) == pytest.approx(list(theirs), rel=1e-5)
    # What follows a knob does not change it.
    assert [p["a"] for p in trial_points(knobs[:1], 7)] == [p["a"] for p in found]
    with pytest.raises(ArgumentError, match="6 knobs"):
        trial_points([Knob(name=str(i), default=1, low=1, high=2) for i in range(6)], 2)


def finished(plan: Plan, score: dict[int, Result]) -> dict[str, Result]:
    """Return results in which every tuning run of trial n has score[n]."""
    return {run.digest: score[run.trial] for run in plan.runs({}) if run.phase == "tuning"}


def test_final_runs_come_after_their_own_tuning_alone() -> None:
    plan = Plan(settings())
    first = list(plan.runs({}))
    assert len(first) == 5 * 3
    assert {run.phase for run in first} == {"tuning"}
    dense = [run for run in first if run.cell.method == "dense"]
    assert first[:3] == dense
    results = {run.digest: result(0.1 * run.trial) for run in dense}
    runs = list(plan.runs(results))
    final = [run for run in runs if run.phase == "final"]
    assert [(run.cell.method, run.trial, run.seed) for run in final] == [
        ("dense", 2, 0),
        ("dense", 2, 1),
    ]
    assert runs.index(final[0]) == 3, "they come right after their tuning"
    assert final[0].lr == dense[2].lr
    assert final[0].digest != dense[2].digest


@pytest.mark.parametrize(
    ("score", "best"),
    [
        ({0: result(0.5), 1: result(0.7), 2: result(0.6)}, 1),
        ({0: result(0.5, 2.0), 1: result(0.5, 1.0), 2: result(0.4, 0.1)}, 1),
        ({0: result(0.5), 1: result(0.5), 2: result(0.5)}, 0),
        ({0: result(None, None), 1: result(0.1), 2: result(None, None)}, 1),
        ({0: result(None, None), 1: result(None, None), 2: result(None, None)}, 0),
    ],
)
def test_best_trial(score: dict[int, Result], best: int) -> None:
    plan = Plan(settings())
    assert plan.best_trial(plan.settings.cells[1], finished(plan, score)) == best


def test_trials_are_averaged_over_tuning_seeds() -> None:
    plan = Plan(settings(tuning_seeds=[100, 101], trials=2))
    cell = plan.settings.cells[0]
    scores = {(0, 100): 0.9, (0, 101): 0.1, (1, 100): 0.6, (1, 101): 0.6}
    results = {run.digest: result(scores[run.trial, run.seed]) for run in plan.runs({})}
    assert plan.best_trial(cell, results) == 1


def test_one_trial_tunes_nothing() -> None:
    runs = list(Plan(settings(trials=1)).runs({}))
    assert {run.phase for run in runs} == {"final"}
    assert len(runs) == 5 * 2
    assert all(run.trial == 0 for run in runs)


def test_learning_rates_are_the_same_list_for_all_methods() -> None:
    runs: dict[str, list[Run]] = {}
    for run in Plan(settings(sparsities=[0.9])).runs({}):
        runs.setdefault(run.cell.method, []).append(run)
    rates = {method: [run.lr for run in found] for method, found in runs.items()}
    assert rates["dense"] == rates["pilot"] == rates["gmp"]
    assert len(set(rates["dense"])) == 3


def test_extension_keeps_digests_and_changes_do_not() -> None:
    before = digests(Plan(settings()), {})
    assert len(set(before.values())) == len(before)
    wider = settings(methods=["magnitude", "gmp", "pilot"], sparsities=[0.9, 0.95, 0.99], seeds=4)
    after = digests(Plan(wider), {})
    assert before.items() <= after.items()
    for change in (
        {"validation": 0.2},
        {"threads": 2},
        {"budget": "flops"},
        {"problems": [{"name": "digits", "data": "digits", "model": "mlp", "epochs": 3}]},
    ):
        changed = digests(Plan(settings(**change)), {})
        assert not set(changed.values()) & set(before.values()), change


def test_place_of_the_data_is_no_part_of_a_run() -> None:
    problem = {"name": "c", "data": "cifar10-jpeg", "model": "mlp"}
    here, there = (
        digests(Plan(settings(problems=[problem | {"data_root": root}])), {}) for root in "ab"
    )
    assert here == there


def test_thrown_away_results_and_changed_recipes_are_other_runs() -> None:
    before = digests(Plan(settings()), {})
    after = digests(Plan(settings(), {"gmp": 1}), {})
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {key for key in before if "/gmp/" in key}

    def plan_with(end: float) -> dict[str, str]:
        register(
            Method(
                name="made-up",
                summary="",
                source="",
                build=lambda: Recipe(masking=GradualCubic(end=end)),
            )
        )
        try:
            return digests(Plan(settings(methods=["made-up"])), {})
        finally:
            unregister("made-up")

    first, same, other = plan_with(0.7), plan_with(0.7), plan_with(0.8)
    assert first == same
    assert {key for key in first if first[key] != other[key]} == {k for k in first if "made" in k}


def test_adam_methods_have_rates_of_their_own() -> None:
    register(Method(name="adamant", summary="", source="", build=Recipe, base="adam"))
    try:
        runs = [r for r in Plan(settings(methods=["adamant"])).runs({}) if r.cell.method != "dense"]
        assert {run.lr for run in runs if run.trial == 0} == {1e-3}
    finally:
        unregister("adamant")


def test_equal_flops_epochs() -> None:
    assert equal_flops_epochs(Recipe(masking=AtEnd()), 0.99, 10, 1.0) == 10
    # Sparse from the first step on: 1 / (1 - 0.9 * 0.5) of the epochs.
    half = Recipe(masking=GradualCubic(begin=0.0, end=0.001))
    assert equal_flops_epochs(half, 0.5, 100, 0.9) == round(100 / (1 - 0.45 * 0.999))
    assert equal_flops_epochs(half, 0.999, 10, 1.0) == MOST * 10


def test_options_of_later_versions_change_nothing_at_their_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As if this version had only known of these.
    now = digests(Plan(settings()), {})
    monkeypatch.setattr(problem_module, "_FIRST_OPTIONS", frozenset({"name", "data", "model"}))
    plain, other = (
        settings(problems=[{"name": "digits", "data": "digits", "model": "mlp"} | extra])
        for extra in ({}, {"momentum": 0.5})
    )
    assert plain.problems[0].identity().keys() == {"name", "data", "model"}
    assert other.problems[0].identity()["momentum"] == 0.5
    assert "data_root" not in settings().problems[0].identity()
    assert digests(Plan(plain), {}) != now
