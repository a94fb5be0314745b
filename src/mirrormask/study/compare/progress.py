"""Lines that tell how far a comparison is, in a terminal or in a log."""

from __future__ import annotations

import os
from collections.abc import Mapping
from statistics import fmean

from rich.console import Console

from mirrormask.study.compare.plan import Plan, Result, Run
from mirrormask.study.compare.queue import Queue
from mirrormask.study.compare.settings import Cell


class Progress:
    """Prints one line for each run that was finished, here or elsewhere.

    Args:
        plan: Of the comparison.
        queue: Where results appear.
        console: Where to print.
    """

    def __init__(self, plan: Plan, queue: Queue, console: Console) -> None:
        self.plan = plan
        self.queue = queue
        self.console = console
        self._known = set(queue.results)
        found = sum(run.digest in self._known for run in plan.runs(queue.results))
        if found:
            console.print(f"{found} of {plan.settings.runs} runs were done before.")

    def show(self) -> None:
        """Print what is new; the queue must be fresh."""
        results = self.queue.results
        runs = [run for run in self.plan.runs(results) if run.digest in results]
        new = [run for run in runs if run.digest not in self._known]
        for done, run in enumerate(new, len(runs) - len(new) + 1):
            self._known.add(run.digest)
            self._line(run, results[run.digest], done)

    def _line(self, run: Run, result: Result, done: int) -> None:
        total, running = self.plan.settings.runs, len(self.queue.running)
        left = max(0, total - done - running)
        took = result.get("measured", {}).get("seconds")
        outcome = (
            result["outcome"] if result["accuracy"] is None else f"{100 * result['accuracy']:.2f} %"
        )
        timing = "" if took is None else f" in {took:.1f} s"
        self.console.print(
            f"{done}/{total} done, {running} running, {left} left, "
            f"{duration(self.remaining())} to go: {run.key} {outcome}{timing}",
            highlight=False,
            soft_wrap=True,
        )

    def remaining(self) -> float | None:
        """Return the seconds that are left, by what runs of each problem and method took."""
        settings, results = self.plan.settings, self.queue.results
        taken: dict[tuple[str, str], list[float]] = {}
        per_cell: dict[Cell, int] = {}
        for run in self.plan.runs(results):
            if run.digest not in results:
                continue
            per_cell[run.cell] = per_cell.get(run.cell, 0) + 1
            seconds = results[run.digest].get("measured", {}).get("seconds")
            if seconds is not None:
                taken.setdefault((run.cell.problem.name, run.cell.method), []).append(seconds)
        if not taken:
            return None
        means = {key: fmean(values) for key, values in taken.items()}
        each = settings.tuning_runs + len(settings.seeds)
        total = sum(
            (each - per_cell.get(cell, 0)) * _expected(cell, means) for cell in settings.cells
        )
        return total / max(1, min(len(self.queue.running), os.cpu_count() or 1))


def _expected(cell: Cell, means: Mapping[tuple[str, str], float]) -> float:
    own = means.get((cell.problem.name, cell.method))
    if own is not None:
        return own
    alike = [value for (problem, _), value in means.items() if problem == cell.problem.name]
    return fmean(alike or means.values())


def duration(seconds: float | None) -> str:
    """Return a time for people.

    Example:
        >>> duration(4000), duration(95), duration(8), duration(None)
        ('1 h 07 min', '2 min', '8 s', 'unknown time')
    """
    if seconds is None:
        return "unknown time"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
