"""From raw runs to what tables and pictures show, problem by problem."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from mirrormask.study.compare.records import Records
from mirrormask.study.compare.settings import DENSE
from mirrormask.study.compare.statistics import (
    Difference,
    Estimate,
    Winner,
    differences_to,
    mean_ranks,
    t_interval,
    winner,
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """All seeds of one method at one sparsity.

    Attributes:
        method: Its name.
        sparsity: Fraction of zeros.
        accuracy: On the test part, None if no run gave a network.
        by_seed: The same by seed; a run that diverged counts as guessing.
        failures: What went wrong, by seed.
        lr: Learning rate chosen in tuning.
        knobs: Knobs chosen in tuning.
        trial: Number of the chosen trial.
        seconds: Mean of training.
        flops: Training FLOPs in theory as a multiple of those of dense training.
        inference_flops: FLOPs of a forward pass left by the zeros, as a share of dense ones.
        state_bytes: Kept beside the weights while training.
        peak_bytes: Resident memory of the process at its peak, mean over runs.
        epochs: Of training.
    """

    method: str
    sparsity: float
    accuracy: Estimate | None
    by_seed: Mapping[int, float]
    failures: Mapping[int, str]
    lr: float
    knobs: Mapping[str, float]
    trial: int
    seconds: float
    flops: float
    inference_flops: float
    state_bytes: float
    peak_bytes: float
    epochs: float


@dataclass(frozen=True, kw_only=True)
class ProblemSummary:
    """Everything about one problem.

    Attributes:
        settings: The problem's own, as plain values.
        sparsities: Ascending.
        methods: In the order of the settings, without dense training; only those with a result.
        dense: Dense training, None while it has no result.
        entries: By method and sparsity.
        winners: By sparsity, among those that have most seeds.
        differences: To the reference, by sparsity and method.
    """

    settings: Mapping[str, Any]
    sparsities: tuple[float, ...]
    methods: tuple[str, ...]
    dense: Entry | None
    entries: Mapping[tuple[str, float], Entry]
    winners: Mapping[float, Winner]
    differences: Mapping[float, Mapping[str, Difference]]

    @property
    def name(self) -> str:
        """Return the problem's name."""
        return str(self.settings["name"])

    def curve(self, method: str) -> list[Entry]:
        """Return a method's entries with an accuracy, by rising sparsity."""
        found = [self.entries.get((method, sparsity)) for sparsity in self.sparsities]
        return [entry for entry in found if entry is not None and entry.accuracy is not None]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A run that ended without a network.

    Attributes:
        run: Its key.
        method: Its method.
        outcome: ``"diverged"``, ``"refused"`` or ``"crashed"``.
        reason: What happened.
    """

    run: str
    method: str
    outcome: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A whole comparison.

    Attributes:
        reference: The method that others are compared with.
        problems: One each.
        ranks: Mean rank of each method that has a result at every point, best first.
        points: Number of points that the ranks are over.
        failed: Runs that ended without a network.
        versions: Every set of versions that runs were done with.
    """

    reference: str
    problems: tuple[ProblemSummary, ...]
    ranks: Mapping[str, float]
    points: int
    failed: tuple[Failure, ...]
    versions: tuple[str, ...]


def summarise(records: Records) -> Summary:
    """Return what the runs of a comparison say."""
    final = [run for run in records.runs if run["phase"] == "final"]
    problems = tuple(
        _problem(settings, final, records.settings["methods"], records.reference)
        for settings in records.settings["problems"]
    )
    points = [
        {e.method: e.accuracy.mean for e in _at(p, s) if e.accuracy is not None}
        for p in problems
        for s in p.sparsities
    ]
    points = [point for point in points if point]
    return Summary(
        reference=records.reference,
        problems=problems,
        ranks=mean_ranks(points),
        points=len(points),
        failed=tuple(
            Failure(
                run=run["run"],
                method=run["method"],
                outcome=run["outcome"],
                reason=run["error"],
            )
            for run in records.runs
            if run["outcome"] != "finished"
        ),
        versions=tuple(
            sorted({", ".join(f"{k} {v}" for k, v in _versions(run).items()) for run in final})
        ),
    )


def _versions(run: Mapping[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = run.get("versions", {})
    return found


def _at(problem: ProblemSummary, sparsity: float) -> list[Entry]:
    return [e for (_, level), e in problem.entries.items() if level == sparsity]


def _problem(
    settings: Mapping[str, Any],
    final: Sequence[Mapping[str, Any]],
    methods: Sequence[str],
    reference: str,
) -> ProblemSummary:
    runs = [run for run in final if run["problem"] == settings["name"]]
    grouped: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for run in runs:
        grouped.setdefault((run["method"], run["sparsity"]), []).append(run)
    dense_flops = fmean([r["flops"] for r in grouped.get((DENSE, 0.0), []) if "flops" in r] or [0])
    entries = {
        (method, sparsity): _entry(method, sparsity, found, dense_flops)
        for (method, sparsity), found in grouped.items()
    }
    dense = entries.pop((DENSE, 0.0), None)
    sparsities = tuple(sorted({sparsity for _, sparsity in entries}))
    winners: dict[float, Winner] = {}
    differences: dict[float, Mapping[str, Difference]] = {}
    for sparsity in sparsities:
        values = {
            method: entries[method, sparsity].by_seed
            for method in methods
            if (method, sparsity) in entries and entries[method, sparsity].by_seed
        }
        # While a study runs, a lucky first seed must not beat a mean over all.
        most = max(map(len, values.values()), default=0)
        whole = {method: found for method, found in values.items() if len(found) == most}
        if whole:
            winners[sparsity] = winner(whole)
        if reference in values:
            differences[sparsity] = differences_to(reference, values)
    return ProblemSummary(
        settings=settings,
        sparsities=sparsities,
        methods=tuple(m for m in methods if any(name == m for name, _ in entries)),
        dense=dense,
        entries=entries,
        winners=winners,
        differences=differences,
    )


def _entry(
    method: str, sparsity: float, runs: Sequence[Mapping[str, Any]], dense_flops: float
) -> Entry:
    by_seed = {
        run["seed"]: run["chance"] if run["outcome"] == "diverged" else run["accuracy"]
        for run in runs
        if run["outcome"] in {"finished", "diverged"}
    }
    whole = [run for run in runs if run["outcome"] == "finished"]

    def mean(values: list[float]) -> float:
        return fmean(values) if values else math.nan

    return Entry(
        method=method,
        sparsity=sparsity,
        accuracy=t_interval(list(by_seed.values())) if by_seed else None,
        by_seed=by_seed,
        failures={run["seed"]: run["error"] for run in runs if run["outcome"] != "finished"},
        lr=runs[0]["lr"],
        knobs=runs[0]["knobs"],
        trial=runs[0]["trial"],
        seconds=mean([run["measured"]["seconds"] for run in whole]),
        flops=mean([run["flops"] for run in whole]) / dense_flops if dense_flops else math.nan,
        inference_flops=mean([run["inference_flops_left"] for run in whole]),
        state_bytes=mean([run["state_bytes"] for run in whole]),
        peak_bytes=mean([run["measured"]["peak_rss_bytes"] for run in whole]),
        epochs=mean([run["epochs"] for run in whole]),
    )
