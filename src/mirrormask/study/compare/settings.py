"""What a comparison compares: problems, methods, sparsities, trials and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from typing import Any, Literal, get_args

from mirrormask.errors import ArgumentError
from mirrormask.methods import method as find_method
from mirrormask.study.compare.problem import Problem

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
    """

    problem: Problem
    method: str
    sparsity: float

    @property
    def name(self) -> str:
        """Return the cell's part of a run's key."""
        return f"{self.problem.name}/{self.method}/{self.sparsity:g}"


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
            leave it out too.
        threads: CPU threads of a run; the same number gives the same bytes.
        device: Where networks are trained, such as ``"cpu"`` or ``"cuda"``.
        budget: ``"epochs"``: as many for each method. ``"flops"``: each method trains for as many
            epochs as cost the FLOPs of dense training, see :mod:`.equal_flops`.
        reference: The method that others are compared with; the first one if it is not among them.

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

    def __post_init__(self) -> None:
        if not self.name:
            raise ArgumentError("The comparison has no name: give it a word, such as 'first'.")
        self._check_lists()
        self._check_seeds()
        for name in ("trials", "threads"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name}={getattr(self, name)} is too small: use at least 1.")
        if not 0 < self.validation < 1:
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
        for sparsity in self.sparsities:
            if not 0 < sparsity < 1:
                raise ArgumentError(
                    f"sparsities holds {sparsity}: use fractions of zeros in (0, 1), such as 0.95."
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
        sparse = [
            Cell(problem=problem, method=method, sparsity=sparsity)
            for method in self.methods
            for problem in self.problems
            for sparsity in self.sparsities
            if sparsity in (find_method(method).sparsities or self.sparsities)
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
        return mapping


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _refuse_twice(kind: str, values: Sequence[Any]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ArgumentError(f"{kind} holds {value!r} twice: name each once.")
