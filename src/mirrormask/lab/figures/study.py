"""All descents of a page at once: what several figures want is computed together, and once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from mirrormask.lab.figures.figure import Settings, Tick
from mirrormask.lab.regression import Run, Trace, descend


class Study:
    """The descents that figures draw from.

    Runs that differ in nothing but their name are the same run. All that are planned are computed
    in one call, in which a step of any number of runs costs little more than a step of one.

    Args:
        settings: Size of the study.
        planned: Runs that will be asked for.

    Example:
        >>> from mirrormask.lab.schedules import Constant
        >>> study = Study(Settings(seeds=2, steps=100), [])
        >>> runs = [Run(name=name, schedule=Constant(strength=0.1)) for name in ("one", "same")]
        >>> trace = study.trace(runs, lambda: None)
        >>> trace.names, bool((trace.final("one") == trace.final("same")).all())
        (('one', 'same'), True)
    """

    def __init__(self, settings: Settings, planned: Sequence[Run]) -> None:
        self.settings = settings
        self.problems = settings.problems()
        self._planned = list(planned)
        self._computed: Trace | None = None
        self._column: dict[Run, int] = {}

    def trace(self, runs: Sequence[Run], tick: Tick) -> Trace:
        """Return the trace of these runs, under their own names.

        Args:
            runs: The runs wanted.
            tick: Called as work goes on.
        """
        self._compute(runs, tick)
        assert self._computed is not None
        columns = [self._column[_nameless(run)] for run in runs]
        return Trace(
            self._computed.steps,
            self._computed.error[:, :, columns],
            self._computed.loss[:, :, columns],
            self._computed.x[:, columns],
            tuple(run.name for run in runs),
        )

    def _compute(self, runs: Sequence[Run], tick: Tick) -> None:
        wanted = [_nameless(run) for run in [*self._planned, *runs]]
        missing = [run for run in dict.fromkeys(wanted) if run not in self._column]
        if not missing:
            return
        fresh = descend(
            self.problems,
            [dataclasses.replace(run, name=str(k)) for k, run in enumerate(missing)],
            steps=self.settings.steps,
            lr=self.settings.lr,
            on_record=tick,
        )
        for run in missing:
            self._column[run] = len(self._column)
        old = self._computed
        self._computed = fresh if old is None else _beside(old, fresh)


def _nameless(run: Run) -> Run:
    return dataclasses.replace(run, name="")


def _beside(old: Trace, fresh: Trace) -> Trace:
    return Trace(
        old.steps,
        np.concatenate([old.error, fresh.error], axis=2),
        np.concatenate([old.loss, fresh.loss], axis=2),
        np.concatenate([old.x, fresh.x], axis=1),
        old.names + fresh.names,
    )
