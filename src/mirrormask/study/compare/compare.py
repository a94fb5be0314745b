"""Run a comparison to its end, alone or beside others, and write what it found."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from rich.console import Console

from mirrormask.errors import MirrormaskError, OutputError
from mirrormask.methods import method as find_method
from mirrormask.study.compare.earlier import refuse_loss, take_in
from mirrormask.study.compare.execute import executor
from mirrormask.study.compare.plan import Plan
from mirrormask.study.compare.plugin import load_plugin
from mirrormask.study.compare.progress import Progress
from mirrormask.study.compare.queue import Pulse, Queue, check_url, open_storage
from mirrormask.study.compare.records import RUNS, Records
from mirrormask.study.compare.settings import DENSE, CompareSettings
from mirrormask.study.compare.worker import POLL, stopped_by_signals, work, work_in_process
from mirrormask.study.run_folder import remove_leftovers

WRITE_EVERY = 60.0
"""Seconds after which a study that still runs writes its runs anew, for whoever wants to look."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and by how many a comparison is done; nothing here changes its results.

    Args:
        folder: For ``runs.json``, the page, checkpoints and, by default, the study.
        storage: URL of the study's database; a SQLite file in the folder if None.
        workers: Processes of this command.
        plugin: A Python file that registers methods.
        pulse: Of claims.
        redo: Methods whose results so far are thrown away.
    """

    folder: Path
    storage: str | None = None
    workers: int = 1
    plugin: Path | None = None
    pulse: Pulse = field(default_factory=Pulse)
    redo: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Return the URL of the study's database."""
        return self.storage or f"sqlite:///{(self.folder / 'study.db').resolve()}"


def compare(settings: CompareSettings, place: Place, console: Console) -> Records:
    """Do all runs of a comparison that are not done yet, and write ``runs.json``.

    Stopped, killed or started several times at once, on one machine or on several with the same
    storage, no finished run is lost or repeated.

    Args:
        settings: What to compare.
        place: Where, and with how many processes.
        console: For progress.

    Returns:
        All runs.

    Raises:
        CheckpointError: If the storage holds another comparison of this name, or ``runs.json``
            results of another one.
        DataError: If there is a ``runs.json`` that is damaged.
        OutputError: If folder or storage cannot be written.
    """
    if place.plugin is not None:
        load_plugin(place.plugin)
    for method in place.redo:
        if method != DENSE:
            find_method(method)
    check_url(place.url)
    _make_folder(place.folder)
    queue = Queue(open_storage(place.url), settings.name, place.pulse)
    path = place.folder / RUNS
    earlier = Records.read(path) if path.exists() else None
    if earlier is not None:
        before = Plan(settings, queue.generations())
        refuse_loss(before, queue, earlier, path, redo=place.redo)
    queue.adopt(settings)
    for method in place.redo:
        queue.throw_away(method)
    plan = Plan(settings, queue.generations())
    if earlier is not None:
        take_in(plan, queue, earlier)
    progress = Progress(plan, queue, console)
    written = time.monotonic()

    def after_each() -> None:
        nonlocal written
        progress.show()
        if time.monotonic() - written > WRITE_EVERY:
            Records.collect(plan, queue.results).write(place.folder / RUNS)
            written = time.monotonic()

    try:
        with stopped_by_signals():
            if place.workers == 1:
                work(plan, queue, executor(settings, place.folder), after_each)
            else:
                _watch(_start(settings, place), queue, after_each, console)
    finally:
        # Also what is there when it is stopped half-way, be it just after a run was stored.
        queue.refresh()
        records = Records.collect(plan, queue.results)
        records.write(place.folder / RUNS)
    return records


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be created ({error.strerror}): give a folder as --out that you may "
            "write to."
        ) from error
    remove_leftovers(folder)


def _start(settings: CompareSettings, place: Place) -> list[BaseProcess]:
    # Not forked: a child must not inherit open connections or threads.
    context = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = []
    for _ in range(place.workers):
        process = context.Process(
            target=work_in_process,
            args=(settings, place.url, place.folder, place.pulse, place.plugin),
        )
        process.start()
        processes.append(process)
    return processes


def _watch(
    processes: list[BaseProcess], queue: Queue, after_each: Callable[[], None], console: Console
) -> None:
    dead: set[int] = set()
    try:
        while any(process.is_alive() for process in processes):
            time.sleep(min(POLL, queue.pulse.beat))
            queue.refresh()
            after_each()
            for number, process in enumerate(processes):
                if process.exitcode and number not in dead:
                    dead.add(number)
                    console.print(
                        f"A worker ended early (code {process.exitcode}); its run is taken over "
                        f"after {queue.pulse.patience:g} s."
                    )
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
        for process in processes:
            process.join()
        queue.refresh()
        after_each()
    if len(dead) == len(processes):
        raise MirrormaskError(
            "All workers ended early: see their messages, and run the same command again to go on."
        )
