"""What a comparison compares: problems, methods, sparsities, trials and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from typing import Any, Literal, get_args

from mirrormask.errors import ArgumentError
from mirrormask.methods import method as find_method
from mirrormask.study.compare.problem import Problem, RateRange

DENSE = "dense"
"""Stands in tables for training without any method, at sparsity 0."""

Budget = Literal["epochs", "flops"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One entry of the final table, for all seeds.

    Attributes:
        problem: What is learned.
        method: Name of a method, or :data:`DENSE`.
        sparsity: Fraction of zeros.
        fixed: Knobs that are not tuned, with their values.
    """

    problem: Problem
    method: str
    sparsity: float
    fixed: tuple[tuple[str, float], ...] = ()

    @property
    def name(self) -> str:
        """Return the cell's part of a run's key."""
        return f"{self.problem.name}/{self.method}/{self.sparsity:g}"


@dataclass(frozen=True, kw_only=True)
class Override:
    """What is different for one method.

    Args:
        method: Its name.
        knobs: Names and values of knobs that are then not tuned.
        sparsities: In place of those of the settings; the same if empty.
        epochs: In place of every problem's.
        lr: In place of every problem's.

    Raises:
        ArgumentError: If a value is outside its domain.
    """

    method: str
    knobs: tuple[tuple[str, float], ...] = ()
    sparsities: tuple[float, ...] = ()
    epochs: int | None = None
    lr: RateRange | None = None

    def __post_init__(self) -> None:
        find_method(self.method).with_knobs(dict(self.knobs))
        _check_sparsities(self.sparsities)
        _refuse_twice("sparsities", self.sparsities)

    def cell(self, problem: Problem, sparsity: float) -> Cell:
        """Return the method's entry at a sparsity."""
        own: dict[str, Any] = {"epochs": self.epochs, "lr": self.lr}
        changes = {name: value for name, value in own.items() if value is not None}
        return Cell(
            problem=replace(problem, **changes),
            method=self.method,
            sparsity=sparsity,
            fixed=self.knobs,
        )

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values, without the method's name."""
        values = {
            "knobs": dict(self.knobs),
            "sparsities": list(self.sparsities),
            "epochs": self.epochs,
            "lr": None if self.lr is None else asdict(self.lr),
        }
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """Everything that decides the runs of a comparison.

    Args:
        name: Of the study in its storage.
        problems: What is learned, each with its network.
        methods: Names of methods; dense training is always compared too.
        sparsities: Fractions of zeros, each in (0, 1).
        trials: Settings of learning rate and knobs tried for each method, problem and sparsity; the
            first are the defaults. With one nothing is tuned.
        seeds: Of the final runs; a number n stands for 0 to n-1.
        tuning_seeds: Of the trials, each run with all of them; none of ``seeds``.
        validation: Share of the training data that trials are judged by, in (0, 1); final runs
            leave it out too. It may be 0 where nothing is tuned.
        threads: CPU threads of a run; the same number gives the same bytes.
        device: Where networks are trained, such as ``"cpu"`` or ``"cuda"``.
        budget: ``"epochs"``: as many for each method. ``"flops"``: each method trains for as many
            epochs as cost the FLOPs of dense training, see :mod:`.equal_flops`.
        reference: The method that others are compared with; the first one if it is not among them.
        overrides: What is different for single methods.
        ours: Where settings follow a paper: what it leaves open, and what was chosen; for people.

    Raises:
        ArgumentError: If a value is outside its domain.
    """

    name: str
    problems: tuple[Problem, ...]
    methods: tuple[str, ...]
    sparsities: tuple[float, ...]
    trials: int = 6
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    tuning_seeds: tuple[int, ...] = (1000,)
    validation: float = 0.1
    threads: int = 1
    device: str = "cpu"
    budget: Budget = "epochs"
    reference: str = "pilot"
    overrides: tuple[Override, ...] = ()
    ours: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            raise ArgumentError("The comparison has no name: give it a word, such as 'first'.")
        self._check_lists()
        self._check_seeds()
        for name in ("trials", "threads"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name}={getattr(self, name)} is too small: use at least 1.")
        tuned = self.trials > 1
        if not 0 <= self.validation < 1 or (tuned and self.validation == 0):
            raise ArgumentError(
                f"validation={self.validation} leaves nothing to tune on: use 0 < share < 1."
            )
        if self.budget not in get_args(Budget):
            raise ArgumentError(f"budget={self.budget!r} is unknown: use 'epochs' or 'flops'.")

    def _check_lists(self) -> None:
        names = [problem.name for problem in self.problems]
        for kind, values in (
            ("problems", names),
            ("methods", self.methods),
            ("sparsities", self.sparsities),
            ("seeds", self.seeds),
            ("tuning_seeds", self.tuning_seeds),
        ):
            if not values:
                raise ArgumentError(f"{kind} is empty: name at least one.")
            _refuse_twice(kind, values)
        for name in self.methods:
            if name == DENSE:
                raise ArgumentError("methods holds 'dense', which is always there: leave it out.")
            find_method(name)
        _check_sparsities(self.sparsities)
        _refuse_twice("overrides", [override.method for override in self.overrides])
        for override in self.overrides:
            if override.method not in self.methods:
                raise ArgumentError(
                    f"overrides holds {override.method!r}, which is none of the methods: add it "
                    "there, or leave it out."
                )

    def _check_seeds(self) -> None:
        for seed in chain(self.seeds, self.tuning_seeds):
            if seed < 0:
                raise ArgumentError(f"Seed {seed} is negative: use 0 or more.")
        if both := set(self.seeds) & set(self.tuning_seeds):
            raise ArgumentError(
                f"Seed {min(both)} is in seeds and in tuning_seeds: a final run must not repeat "
                "what was tuned on; use other tuning_seeds."
            )

    @property
    def compared_with(self) -> str:
        """Name the method that others are compared with."""
        return self.reference if self.reference in self.methods else self.methods[0]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All entries of the table, in the order in which they are run: method by method.

        A method that can only have some sparsities has no entry at others.
        """
        dense = [Cell(problem=p, method=DENSE, sparsity=0.0) for p in self.problems]
        special = {override.method: override for override in self.overrides}
        sparse = [
            own.cell(problem, sparsity)
            for own in (special.get(method, Override(method=method)) for method in self.methods)
            for problem in self.problems
            for sparsity in own.sparsities or self.sparsities
            if sparsity in (find_method(own.method).sparsities or (sparsity,))
        ]
        return (*dense, *sparse)

    @property
    def tuning_runs(self) -> int:
        """Runs that tune one cell."""
        return self.trials * len(self.tuning_seeds) if self.trials > 1 else 0

    @property
    def runs(self) -> int:
        """Runs of the whole comparison."""
        return len(self.cells) * (self.tuning_runs + len(self.seeds))

    def common_identity(self) -> dict[str, Any]:
        """Return what must not change when a study is extended, apart from its problems."""
        names = ("trials", "tuning_seeds", "validation", "threads", "device", "budget")
        return {name: _plain(getattr(self, name)) for name in names}

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values that :func:`from_mapping` reads."""
        mapping = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        mapping["problems"] = [
            {k: v for k, v in asdict(p).items() if k != "data_root"} for p in self.problems
        ]
        mapping["overrides"] = {o.method: o.to_mapping() for o in self.overrides}
        mapping["ours"] = dict(self.ours)
        return mapping


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_sparsities(sparsities: Sequence[float]) -> None:
    for sparsity in sparsities:
        if not 0 < sparsity < 1:
            raise ArgumentError(
                f"sparsities holds {sparsity}: use fractions of zeros in (0, 1), such as 0.95."
            )


def _refuse_twice(kind: str, values: Sequence[Any]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ArgumentError(f"{kind} holds {value!r} twice: name each once.")
