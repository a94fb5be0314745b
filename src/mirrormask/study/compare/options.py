"""Settings of a comparison from a file, a recipe or the command line alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from mirrormask.errors import ArgumentError
from mirrormask.names import unknown_name
from mirrormask.study.compare.problem import Problem
from mirrormask.study.compare.settings import CompareSettings
from mirrormask.study.compare.settings_file import read_settings
from mirrormask.study.data import DEFAULT

_PROBLEM = ("data", "model", "data_root", "epochs", "images")
_PLAIN = ("trials", "budget", "device")


def chosen_settings(
    path: Path | None, recipe: str | None, options: Mapping[str, Any]
) -> CompareSettings:
    """Return the settings that a command line asks for.

    Args:
        path: Of a YAML file.
        recipe: Name of a packaged one.
        options: What was typed beside it, by name; None for what was not.

    Raises:
        ArgumentError: If both a file and a recipe are given, or an option is outside its domain.
        DataError: If the file cannot be read.
    """
    if path is not None and recipe is not None:
        raise ArgumentError("--settings and --recipe are both given: leave one of them out.")
    given = {name: value for name, value in options.items() if value is not None}
    if recipe is not None:
        settings = read_recipe(recipe)
    elif path is not None:
        settings = read_settings(path)
    else:
        data, model = given.get("data", DEFAULT), given.get("model", "mlp")
        problem = Problem(name=f"{data}-{model}", data=data, model=model)
        settings = CompareSettings(
            name="compare",
            problems=(problem,),
            methods=("pilot", "l1-freeze", "gmp"),
            sparsities=(0.9, 0.95, 0.98),
        )
    return _with_options(settings, given)


def recipes() -> list[str]:
    """Return the names of the packaged settings."""
    folder = files("mirrormask.study") / "recipes"
    if not folder.is_dir():
        return []
    return sorted(e.name.removesuffix(".yaml") for e in folder.iterdir() if "yaml" in e.name)


def read_recipe(name: str) -> CompareSettings:
    """Return packaged settings.

    Raises:
        ArgumentError: If there are none of this name.
    """
    if name not in recipes():
        raise ArgumentError(unknown_name("recipe", name, recipes()))
    entry = files("mirrormask.study") / "recipes" / f"{name}.yaml"
    with as_file(entry) as path:
        return read_settings(path)


def _with_options(settings: CompareSettings, given: Mapping[str, Any]) -> CompareSettings:
    changes: dict[str, Any] = {name: given[name] for name in _PLAIN if name in given}
    about_problem = {name: given[name] for name in _PROBLEM if name in given}
    if about_problem:
        if len(settings.problems) > 1 and about_problem.keys() - {"epochs", "images"}:
            raise ArgumentError(
                f"The settings have {len(settings.problems)} problems, so --"
                f"{min(about_problem).replace('_', '-')} could mean any: edit the file instead."
            )
        changes["problems"] = tuple(replace(p, **about_problem) for p in settings.problems)
    if "methods" in given:
        changes["methods"] = tuple(given["methods"].split(","))
    # What is typed holds for all methods, whatever the file says of single ones.
    every: dict[str, Any] = {"epochs": None} if "epochs" in given else {}
    every |= {"sparsities": ()} if "sparsities" in given else {}
    changes["overrides"] = tuple(
        replace(override, **every)
        for override in settings.overrides
        if override.method in changes.get("methods", settings.methods)
    )
    if "sparsities" in given:
        changes["sparsities"] = tuple(_number(part) for part in given["sparsities"].split(","))
    if "seeds" in given:
        changes["seeds"] = tuple(range(given["seeds"]))
    return replace(settings, **changes)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(
            f"sparsities holds {text!r}, which is no number: write such as 0.9,0.99."
        ) from None
