"""Which runs a comparison consists of, as far as its results so far can tell."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal

from mirrormask.methods import method as find_method
from mirrormask.methods.record import Knob
from mirrormask.optimizer import Recipe
from mirrormask.study.compare.points import trial_points
from mirrormask.study.compare.settings import DENSE, Cell, CompareSettings

Phase = Literal["tuning", "final"]
Result = dict[str, Any]
LR = "lr"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run.

    Attributes:
        phase: Whether it is judged on the validation part or, for the table, on the test part.
        cell: Problem, method and sparsity.
        trial: Number of its learning rate and knobs among the trials of the cell.
        seed: Of initial weights and batches.
        lr: Peak learning rate.
        knobs: Of the method.
        digest: Of all that decides its result: two runs with the same one are the same run.
    """

    phase: Phase
    cell: Cell
    trial: int
    seed: int
    lr: float
    knobs: Mapping[str, float]
    digest: str

    @property
    def key(self) -> str:
        """Name the run for people."""
        trial = f"trial{self.trial}/" if self.phase == "tuning" else ""
        return f"{self.phase}/{self.cell.name}/{trial}seed{self.seed}"


class Plan:
    """Lists the runs of a comparison, in the order in which they should be done.

    Final runs of a cell are known once its tuning is done, and come right after it.

    Args:
        settings: Of the comparison.
        generations: How often the results of a method were thrown away, by its name.
    """

    def __init__(
        self, settings: CompareSettings, generations: Mapping[str, int] | None = None
    ) -> None:
        self.settings = settings
        self.generations = dict(generations or {})
        self._tuning = cache(self._make_tuning)
        self._final = cache(self._make_final)

    def runs(self, results: Mapping[str, Result]) -> Iterator[Run]:
        """Yield all runs that can be told from the results so far.

        Args:
            results: Of finished runs, by digest.
        """
        for cell in self.settings.cells:
            yield from self._tuning(cell)
            best = self.best_trial(cell, results)
            if best is not None:
                yield from self._final(cell, best)

    def best_trial(self, cell: Cell, results: Mapping[str, Result]) -> int | None:
        """Return the trial of highest validation accuracy, None while one is missing.

        Accuracies are averaged over the tuning seeds; at a tie the lower loss wins, then the
        earlier trial. A run that failed counts as 0.
        """
        runs = self._tuning(cell)
        if any(run.digest not in results for run in runs):
            return None
        scores = []
        for trial in range(self.settings.trials):
            found = [results[run.digest] for run in runs if run.trial == trial]
            accuracy = sum(result["accuracy"] or 0.0 for result in found)
            loss = sum(float("inf") if r["loss"] is None else r["loss"] for r in found)
            scores.append((-accuracy, loss, trial))
        return min(scores)[2]

    def _make_tuning(self, cell: Cell) -> tuple[Run, ...]:
        if self.settings.trials == 1:
            return ()  # nothing to choose from
        return tuple(
            self._run("tuning", cell, trial, seed)
            for trial in range(self.settings.trials)
            for seed in self.settings.tuning_seeds
        )

    def _make_final(self, cell: Cell, trial: int) -> tuple[Run, ...]:
        return tuple(self._run("final", cell, trial, seed) for seed in self.settings.seeds)

    def _run(self, phase: Phase, cell: Cell, trial: int, seed: int) -> Run:
        values = dict(trial_points(tuned_knobs(cell), self.settings.trials)[trial])
        lr = values.pop(LR)
        decides = {
            "phase": phase,
            "trial": trial if phase == "tuning" else None,
            "problem": cell.problem.identity(),
            "method": cell.method,
            "recipe": _describe(recipe_of(cell, values)),
            "sparsity": cell.sparsity,
            "lr": lr,
            "seed": seed,
            "generation": self.generations.get(cell.method, 0),
        } | {name: getattr(self.settings, name) for name in _DECIDES}
        text = json.dumps(decides, sort_keys=True)
        return Run(
            phase=phase,
            cell=cell,
            trial=trial,
            seed=seed,
            lr=lr,
            knobs=values,
            digest=hashlib.sha256(text.encode()).hexdigest()[:16],
        )


_DECIDES = ("validation", "threads", "device", "budget")


def tuned_knobs(cell: Cell) -> list[Knob]:
    """Return what is tuned in a cell: the learning rate, and knobs that are not fixed."""
    if cell.method == DENSE:
        return [cell.problem.lr.knob()]
    record = find_method(cell.method)
    rates = cell.problem.adam_lr if uses_adam(cell) else cell.problem.lr
    fixed = dict(cell.fixed)
    return [rates.knob(), *(knob for knob in record.knobs if knob.name not in fixed)]


def uses_adam(cell: Cell) -> bool:
    """Return whether a method brings Adam to a problem that is otherwise trained with SGD."""
    if cell.method == DENSE or cell.problem.optimizer != "sgd":
        return False
    return find_method(cell.method).base == "adam"


def recipe_of(cell: Cell, knobs: Mapping[str, float]) -> Recipe | None:
    """Return the recipe of a cell with its knobs turned, None for dense training."""
    if cell.method == DENSE:
        return None
    return find_method(cell.method).with_knobs(dict(cell.fixed) | dict(knobs))


def _describe(part: object) -> Any:
    """Return what decides a recipe as plain values, without options at their defaults.

    So a later version may have more of them, and studies of earlier versions go on.
    """
    if isinstance(part, tuple | list):
        return [_describe(value) for value in part]
    if isinstance(part, type) or not is_dataclass(part):
        # A function inside a recipe shows where it lies in memory, which says nothing.
        return re.sub(r" at 0x[0-9a-f]+", "", repr(part))
    told = {field.name: getattr(part, field.name) for field in fields(part)}
    changed = {
        field.name: _describe(told[field.name])
        for field in fields(part)
        if told[field.name] != _default(field)
    }
    return {"kind": type(part).__name__} | changed


def _default(field: Field[Any]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()
