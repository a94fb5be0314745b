"""The measured tables of docs/recipe.md; page_tables.py puts them there."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from math import log
from statistics import mean, stdev
from typing import Any

from scipy import stats

from raw_results import HERE, percent, table

LEVELS = (0.9, 0.95, 0.98, 0.99)
PROBLEMS = {
    "mnist1d": "1-D CNN, MNIST-1D",
    "fashion-mlp": "MLP, Fashion-MNIST",
    "fashion-cnn": "small CNN, Fashion-MNIST",
}
BEARING = ("default", "no boost", "no boost, no bound", "gmp")
FORMER = "pilot-factors"
# A label; the tuned comparison; the one of defaults, and its problem.
UNTUNED = (
    ("1-D CNN, MNIST-1D", "recipe/mnist1d", "untuned/search", "mnist1d-cnn"),
    ("MLP, Fashion-MNIST", "recipe/fashion-mlp", "untuned/search", "fashion-mlp"),
    ("small CNN, Fashion-MNIST", "recipe/fashion-cnn", "untuned/search", "fashion-cnn"),
    ("MLP, digits", "unseen/digits", "untuned/digits", "digits"),
    ("ResNet-20, CIFAR-10", "unseen/resnet20", "untuned/resnet20", "resnet20"),
)
BUDGETS = (5, 8, 12, 20, 50)  # epochs
HEADINGS = ["", *map(percent, LEVELS)]
RIVAL_NOTE = "best rival that is not PILoT"


def comparison() -> str:
    """Return the table of accuracies, rivals and paired differences."""
    rows = []
    for name, label in PROBLEMS.items():
        found = finals(f"recipe/{name}")
        dense = mean(found["dense", 0.0].values())
        ours = [f"{label}: `pilot`", f"{dense:.1f}"]
        theirs, apart = [RIVAL_NOTE, ""], ["difference", ""]
        former = [f"`{FORMER}`, the former default", ""]
        for level in LEVELS:
            mine = found["pilot", level]
            rivals = [m for m, s in found if s == level and not m.startswith("pilot")]
            best = max(rivals, key=lambda m: mean(found[m, level].values()))
            ours.append(f"**{mean(mine.values()):.1f}**")
            theirs.append(f"{mean(found[best, level].values()):.1f} `{best}`")
            apart.append(paired(mine, found[best, level]))
            if (FORMER, level) in found:
                former.append(f"{mean(found[FORMER, level].values()):.1f}")
        rows += [ours, theirs, apart]
        if len(former) > 2:
            rows.append(former)
    return table(["", "dense", *HEADINGS[1:]], rows)


def finals(
    name: str, figure: str = "accuracy", scale: float = 100, *, problem: str | None = None
) -> dict[tuple[str, float], dict[int, float]]:
    """Return a figure of the test data by seed, accuracy in %, for each method and sparsity.

    A comparison of several problems needs the name of one.
    """
    runs = json.loads((HERE / "compare" / name / "runs.json").read_text())["runs"]
    found: dict[tuple[str, float], dict[int, float]] = defaultdict(dict)
    for run in runs:
        if run["phase"] == "final" and problem in (None, run["problem"]):
            found[run["method"], run["sparsity"]][run["seed"]] = scale * run[figure]
    return found


def bits_per_character() -> str:
    """Return the text problem's table in bits per character: its loss is in nats."""
    found = finals("unseen/text", "loss", 1 / log(2))
    dense = mean(found["dense", 0.0].values())
    return f"Dense: {dense:.2f} bits per character.\n\n{behind(found, digits=2)}"


def unseen(problem: str) -> str:
    """Return the table of accuracies on a problem that the search never saw."""
    return behind(finals(f"unseen/{problem}"), digits=1)


def rest(problem: str) -> str:
    """Return the table of the rivals that are not among the first ones on a problem."""
    return behind(finals(f"recipe/{problem}-rest"), digits=1)


def behind(found: dict[tuple[str, float], dict[int, float]], *, digits: int) -> str:
    """Return a figure of every method, and the figure of ``pilot`` less it with its interval."""
    rows, levels = [], sorted({s for _, s in found if s > 0})
    for method in dict.fromkeys(m for m, s in found if s > 0):
        cells = []
        for level in levels:
            ours, theirs = found["pilot", level], found[method, level]
            middle, half = interval([ours[seed] - theirs[seed] for seed in ours])
            apart = "" if method == "pilot" else f" ({middle:+.{digits}f} ± {half:.{digits}f})"
            cells.append(f"{mean(theirs.values()):.{digits}f}{apart}")
        rows.append([f"`{method}`", *cells])
    return table(["", *map(percent, levels)], rows)


def untuned() -> str:
    """Return the table of the recipe as it comes beside its tuned self, at 95 % zeros."""
    rows = []
    for label, tuned, name, problem in UNTUNED:
        mine = finals(name, problem=problem)["pilot", 0.95]
        theirs = finals(tuned)["pilot", 0.95]
        seeds = sorted(mine.keys() & theirs.keys())
        middle, half = interval([mine[seed] - theirs[seed] for seed in seeds])
        means = [mean(found[seed] for seed in seeds) for found in (mine, theirs)]
        rows.append([label, *(f"{value:.1f}" for value in means), f"{middle:+.1f} ± {half:.1f}"])
    return table(["95 % zeros", "as it comes", "tuned", "difference"], rows)


def rewinding() -> str:
    """Return the accuracies of the recipe and of learning-rate rewinding as epochs grow."""
    found = [finals("budgets/rewinding", problem=f"fashion-cnn-{n}") for n in BUDGETS]
    ours, theirs = ([one[method, 0.95] for one in found] for method in ("pilot", "lrr"))
    short = f"`pilot` after {BUDGETS[0]} less `lrr`"
    rows = [
        ["`pilot`", *(f"{mean(one.values()):.1f}" for one in ours)],
        ["`lrr`", *(f"{mean(one.values()):.1f}" for one in theirs)],
        ["difference", *map(paired, ours, theirs)],
        [short, *(paired(ours[0], one) for one in theirs)],
    ]
    return table(["epochs", *map(str, BUDGETS)], rows)


def paired(ours: dict[int, float], theirs: dict[int, float]) -> str:
    """Return the mean difference over seeds with its interval."""
    middle, half = interval([ours[seed] - theirs[seed] for seed in ours])
    return f"{middle:+.1f} ± {half:.1f}"


def interval(differences: list[float]) -> tuple[float, float]:
    """Return mean and half width of a 95 % t-interval."""
    quantile = float(stats.t.ppf(0.975, len(differences) - 1))
    return mean(differences), quantile * stdev(differences) / len(differences) ** 0.5


def read(name: str) -> list[dict[str, Any]]:
    path = HERE / "results" / f"recipe_{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def parts(problem: str) -> str:
    """Return the table of the recipe with one part changed, on one problem."""
    found: dict[tuple[str, float], list[float]] = defaultdict(list)
    for run in read("parts"):
        if run["problem"] == problem:
            found[run["part"], run["sparsity"]].append(100 * run["accuracy"])
    names = dict.fromkeys(part for part, _ in found)
    rows = [[part, *(f"{mean(found[part, level]):.1f}" for level in LEVELS)] for part in names]
    return table(HEADINGS, rows)


def robustness() -> str:
    """Return the table of changed settings: the default, it without two of its parts, GMP."""
    found: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for run in read("robustness"):
        where = run["change"], run["problem"], str(run["sparsity"]), run["part"]
        found[where].append(100 * run["accuracy"])
    rows = [
        [
            change,
            *(
                " / ".join(
                    f"{mean(found[change, problem, str(level), part]):.1f}" for part in BEARING
                )
                for problem in ("mnist1d-cnn", "fashion-mlp")
                for level in (0.95, 0.99)
            ),
        ]
        for change in dict.fromkeys(where[0] for where in found)
    ]
    headings = [
        f"{label}, {level}" for label in ("MNIST-1D", "Fashion-MNIST") for level in ("95 %", "99 %")
    ]
    return table(["default / no boost / neither boost nor bound / gmp", *headings], rows)


PARTS: dict[str, Callable[[], str]] = {
    "comparison": comparison,
    "rest-fashion-cnn": partial(rest, "fashion-cnn"),
    "unseen-digits": partial(unseen, "digits"),
    "unseen-text": partial(unseen, "text"),
    "unseen-text-bits": bits_per_character,
    "unseen-resnet20": partial(unseen, "resnet20"),
    "untuned": untuned,
    "rewinding": rewinding,
    "parts-mnist1d": partial(parts, "mnist1d-cnn"),
    "parts-mlp": partial(parts, "fashion-mlp"),
    "robustness": robustness,
}
