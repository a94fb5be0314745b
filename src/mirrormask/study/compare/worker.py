"""A worker: claims one run after the other until the comparison is complete."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from pathlib import Path

from mirrormask.study.compare.execute import Execute, executor
from mirrormask.study.compare.plan import Plan, Result, Run
from mirrormask.study.compare.plugin import load_plugin
from mirrormask.study.compare.queue import Claim, Pulse, Queue, open_storage
from mirrormask.study.compare.settings import CompareSettings

POLL = 1.0
"""Seconds between looks at the storage while others have what is left to do."""


def work(
    plan: Plan, queue: Queue, execute: Execute, after_each: Callable[[], None] = lambda: None
) -> None:
    """Do runs until all of the comparison are done, here or elsewhere.

    Args:
        plan: What there is to do.
        queue: Shared with other workers.
        execute: Does one run.
        after_each: Called after each run and, while there is nothing to do, about once a second.
    """
    try:
        while True:
            queue.refresh()
            after_each()
            runs = [run for run in plan.runs(queue.results) if run.digest not in queue.results]
            if not runs:
                return
            taken = _claim_first(queue, runs)
            if taken is None:
                time.sleep(min(POLL, queue.pulse.beat))
                continue
            run, claim = taken
            with claim:
                claim.finish(_guarded(execute, run))
    except BaseException:
        queue.give_back()
        raise


def work_in_process(
    settings: CompareSettings, url: str, folder: Path, pulse: Pulse, plugin: Path | None
) -> None:
    """Be one of several workers of a command: a process of its own that ends with its parent."""
    if plugin is not None:
        load_plugin(plugin)
    with stopped_by_signals():
        queue = Queue(open_storage(url), settings.name, pulse)
        plan = Plan(settings, queue.generations())
        try:
            work(plan, queue, executor(settings, folder), _end_with_parent)
        except KeyboardInterrupt:
            return


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let a polite request to end (SIGTERM) do what Ctrl-C does, and either of them only once.

    A terminal's Ctrl-C reaches workers twice, by itself and through the command that started
    them; the second must not interrupt the giving back of runs.
    """
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop(number: int, frame: object) -> None:
        for one in signals:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = [signal.signal(one, stop) for one in signals]
    try:
        yield
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)


def _claim_first(queue: Queue, runs: list[Run]) -> tuple[Run, Claim] | None:
    for run in runs:
        if run.digest in queue.running:
            continue
        claim = queue.claim(run)
        if claim is not None:
            return run, claim
    return None


def _guarded(execute: Execute, run: Run) -> Result:
    try:
        return execute(run)
    except Exception as error:
        # One broken method must not stop the others; what happened is in the results.
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        return {
            "outcome": "crashed",
            "error": text,
            "accuracy": None,
            "loss": None,
            "train_accuracy": None,
        }


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None and not parent.is_alive():
        raise KeyboardInterrupt
