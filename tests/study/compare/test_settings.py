"""Settings are read strictly; every mistake is named before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mirrormask.errors import ArgumentError, DataError, MirrormaskError
from mirrormask.masking import GradualCubic
from mirrormask.methods import Method, register
from mirrormask.methods.registry import unregister
from mirrormask.optimizer import Recipe
from mirrormask.study.compare.options import chosen_settings
from mirrormask.study.compare.plan import Plan, recipe_of
from mirrormask.study.compare.settings_file import from_mapping, read_settings

PROBLEM = {"name": "digits", "data": "digits", "model": "mlp"}
GOOD = {"name": "t", "problems": [PROBLEM], "methods": ["pilot", "gmp"], "sparsities": [0.9]}


def test_yaml_numbers_in_any_spelling(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: t\nmethods: [gmp]\nsparsities: [9e-1]\nseeds: 3\n"
        "problems:\n  - {name: d, data: digits, model: mlp, weight_decay: 5e-4, momentum: 0,"
        " lr: {default: 1e-1, low: 1e-2, high: 1}}\n"
    )
    settings = read_settings(path)
    assert settings.sparsities == (0.9,)
    assert settings.seeds == (0, 1, 2)
    problem = settings.problems[0]
    assert (problem.weight_decay, problem.momentum, problem.lr.high) == (5e-4, 0.0, 1.0)
    assert settings.compared_with == "gmp", "the reference is not among the methods"


def test_plain_values_come_back() -> None:
    settings = from_mapping(GOOD | {"seeds": [3, 5], "reference": "gmp"})
    assert from_mapping(settings.to_mapping()) == settings
    assert settings.compared_with == "gmp"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"method": ["pilot"]}, ["'method'", "did you mean 'methods'"]),
        ({"name": ""}, ["no name"]),
        ({"name": 3}, ["name=3", "word"]),
        ({"methods": []}, ["methods is empty"]),
        ({"methods": "pilot"}, ["methods='pilot'", "no list"]),
        ({"methods": ["pilott"]}, ["'pilott'", "'pilot'"]),
        ({"methods": ["dense"]}, ["dense", "leave it out"]),
        ({"methods": ["gmp", "gmp"]}, ["'gmp' twice"]),
        ({"sparsities": [95]}, ["95", "0.95"]),
        ({"sparsities": [0.0]}, ["0.0"]),
        ({"sparsities": ["most"]}, ["'most'", "number"]),
        ({"trials": 0}, ["trials=0"]),
        ({"trials": 2.5}, ["trials=2.5", "whole"]),
        ({"trials": True}, ["trials=True"]),
        ({"seeds": 0}, ["seeds is empty"]),
        ({"seeds": [-1]}, ["-1"]),
        ({"seeds": [0, 7], "tuning_seeds": [7]}, ["Seed 7", "tuning_seeds"]),
        ({"validation": 0}, ["validation=0.0"]),
        ({"budget": "time"}, ["'time'", "'flops'"]),
        ({"problems": {}}, ["problems={}", "list"]),
        ({"problems": ["digits"]}, ["'digits'", "mapping"]),
        ({"problems": [PROBLEM, PROBLEM]}, ["'digits' twice"]),
        ({"problems": [{"name": "d", "data": "digits"}]}, ["model", "add it"]),
        ({"problems": [PROBLEM | {"epoch": 3}]}, ["'epoch'", "did you mean 'epochs'"]),
        ({"problems": [PROBLEM | {"data": "digit"}]}, ["did you mean 'digits'"]),
        ({"problems": [PROBLEM | {"model": "mpl"}]}, ["did you mean 'mlp'"]),
        ({"problems": [PROBLEM | {"optimizer": "adam"}]}, ["'adam'", "'adamw'"]),
        ({"problems": [PROBLEM | {"epochs": 0}]}, ["epochs=0"]),
        ({"problems": [PROBLEM | {"momentum": 1}]}, ["momentum=1.0"]),
        ({"problems": [PROBLEM | {"weight_decay": -1}]}, ["weight_decay=-1.0"]),
        ({"problems": [PROBLEM | {"name": "a/b"}]}, ["'a/b'"]),
        ({"problems": [PROBLEM | {"augment": "yes"}]}, ["augment='yes'"]),
        ({"problems": [PROBLEM | {"lr": 0.1}]}, ["0.1", "mapping"]),
        ({"problems": [PROBLEM | {"schedule": "steps"}]}, ["'steps'", "did you mean 'step'"]),
        ({"problems": [PROBLEM | {"drops": [0.5, 0.5]}]}, ["drops=[0.5, 0.5]", "ascending"]),
        ({"problems": [PROBLEM | {"drop_factor": 10}]}, ["drop_factor=10.0"]),
        ({"problems": [PROBLEM | {"label_smoothing": 1}]}, ["label_smoothing=1.0"]),
        ({"problems": [PROBLEM | {"warmup_epochs": -1}]}, ["warmup_epochs=-1.0"]),
        ({"problems": [PROBLEM | {"warmup_epochs": "few"}]}, ["'few'", "number"]),
        ({"problems": [PROBLEM | {"images": 0}]}, ["images=0"]),
        ({"overrides": {"pilto": {}}}, ["'pilto'", "did you mean 'pilot'"]),
        ({"overrides": {"lrr": {"epochs": 9}}}, ["'lrr'", "none of the methods"]),
        ({"overrides": {"gmp": {"epoch": 9}}}, ["'epoch'", "did you mean 'epochs'"]),
        ({"overrides": {"gmp": {"knobs": {"end": "late"}}}}, ["end='late'"]),
        ({"overrides": {"gmp": {"knobs": {"ends": 0.5}}}}, ["'ends'", "'end'"]),
        ({"overrides": {"gmp": {"sparsities": [9]}}}, ["9.0"]),
        ({"overrides": ["gmp"]}, ["['gmp']", "mapping"]),
        ({"ours": {"alpha": 1}}, ["alpha=1", "word"]),
        ({"problems": [PROBLEM | {"lr": {"default": 3, "low": 1, "high": 2}}]}, ["default=3.0"]),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(ArgumentError) as caught:
        from_mapping(GOOD | change)
    for part in named:
        assert part in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "\t- x", "name: 'open"])
def test_files_that_are_no_yaml(text: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match="no YAML"):
        read_settings(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_settings(tmp_path / "missing.yaml")


def test_counts_of_runs() -> None:
    settings = from_mapping(GOOD | {"sparsities": [0.9, 0.99], "trials": 6, "seeds": 5})
    # Dense and two methods at two sparsities: five cells.
    assert len(settings.cells) == 5
    assert settings.runs == 5 * (6 + 5)
    assert from_mapping(GOOD | {"trials": 1, "seeds": 5}).runs == 3 * 5
    assert from_mapping(GOOD | {"tuning_seeds": [7, 8], "seeds": 1}).runs == 3 * (6 * 2 + 1)


def test_overrides_change_one_method_alone() -> None:
    own = {"knobs": {"end": 0.6}, "sparsities": [0.5, 0.99], "epochs": 7,
           "lr": {"default": 0.2, "low": 0.1, "high": 0.4}}  # fmt: skip
    settings = from_mapping(GOOD | {"overrides": {"gmp": own}, "ours": {"end": "a guess"}})
    assert from_mapping(settings.to_mapping()) == settings
    dense, pilot, *gmp = settings.cells
    assert dense.problem == pilot.problem == settings.problems[0]
    assert [cell.sparsity for cell in gmp] == [0.5, 0.99]
    assert {cell.problem.epochs for cell in gmp} == {7}
    assert {cell.problem.lr.default for cell in gmp} == {0.2}
    assert settings.runs == 4 * (6 + 5)

    runs = list(Plan(settings).runs({}))
    found = [run for run in runs if run.cell.method == "gmp"]
    assert {tuple(run.knobs) for run in found} == {()}, "a fixed knob is not tuned"
    recipe = recipe_of(found[0].cell, found[0].knobs)
    assert recipe is not None
    assert recipe.masking == GradualCubic(begin=0.2, end=0.6)
    plain = list(Plan(from_mapping(GOOD)).runs({}))
    assert {run.digest for run in runs} & {run.digest for run in plain} == {
        run.digest for run in plain if run.cell.method != "gmp"
    }


def test_nothing_tuned_needs_no_validation_part() -> None:
    assert from_mapping(GOOD | {"validation": 0, "trials": 1}).validation == 0.0


def test_method_with_few_sparsities_has_few_cells() -> None:
    half = Method(name="half-only", summary="", source="", build=Recipe, sparsities=(0.5,))
    register(half)
    try:
        settings = from_mapping(GOOD | {"methods": ["half-only"], "sparsities": [0.5, 0.9]})
        assert [(c.method, c.sparsity) for c in settings.cells] == [
            ("dense", 0.0),
            ("half-only", 0.5),
        ]
    finally:
        unregister("half-only")


def test_options_replace_entries(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: t\nmethods: [gmp]\nsparsities: [0.9]\n"
        "problems: [{name: d, data: digits, model: mlp}, {name: e, data: digits, model: cnn}]\n"
    )
    options = {"methods": "pilot,gmp", "sparsities": "0.5,0.75", "seeds": 2, "epochs": 3}
    settings = chosen_settings(path, None, options | {"trials": None})
    assert settings.methods == ("pilot", "gmp")
    assert settings.sparsities == (0.5, 0.75)
    assert settings.seeds == (0, 1)
    assert settings.trials == 6
    assert [problem.epochs for problem in settings.problems] == [3, 3]
    with pytest.raises(ArgumentError, match="--data could mean any"):
        chosen_settings(path, None, {"data": "digits"})
    with pytest.raises(MirrormaskError, match="leave one of them out"):
        chosen_settings(path, "x", {})
    with pytest.raises(ArgumentError, match="'much'"):
        chosen_settings(None, None, {"sparsities": "0.5,much"})
    alone = chosen_settings(None, None, {"data": "digits", "model": "cnn"})
    assert alone.problems[0].name == "digits-cnn"
