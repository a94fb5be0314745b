"""Progress lines: what is done, what is left, how long it will take."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mirrormask.study.compare.plan import Plan, Result, Run
from mirrormask.study.compare.progress import Progress, duration
from mirrormask.study.compare.queue import Pulse, Queue, open_storage
from mirrormask.study.compare.settings_file import from_mapping
from mirrormask.study.compare.worker import work

SETTINGS = from_mapping(
    {
        "name": "t",
        "problems": [{"name": "digits", "data": "digits", "model": "mlp"}],
        "methods": ["gmp", "l1"],
        "sparsities": [0.9],
        "trials": 1,
        "seeds": 2,
    }
)


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(open_storage(f"sqlite:///{tmp_path / 'study.db'}"), "t", Pulse())


def result(seconds: float, **changes: Any) -> Result:
    return {
        "outcome": "finished",
        "error": None,
        "accuracy": 0.5,
        "loss": 1.0,
        "measured": {"seconds": seconds},
    } | changes


def lines(queue: Queue, results: dict[tuple[str, int], Result]) -> list[str]:
    """Do some runs, and return what was printed."""
    stream = io.StringIO()
    plan = Plan(SETTINGS)
    progress = Progress(plan, queue, Console(file=stream, width=200))

    def execute(run: Run) -> Result:
        if (run.cell.method, run.seed) not in results:
            raise KeyboardInterrupt
        return results[run.cell.method, run.seed]

    try:
        work(plan, queue, execute, progress.show)
    except KeyboardInterrupt:
        queue.refresh()
        progress.show()
    return stream.getvalue().splitlines()


def test_lines_and_time_remaining(queue: Queue) -> None:
    printed = lines(
        queue,
        {
            ("dense", 0): result(10.0),
            ("dense", 1): result(20.0),
            ("gmp", 0): result(300.0, outcome="diverged", accuracy=None),
        },
    )
    assert printed == [
        "1/6 done, 0 running, 5 left, 50 s to go: final/digits/dense/0/seed0 50.00 % in 10.0 s",
        # One more dense at 10 s; nothing is known of the others but what dense took.
        "2/6 done, 0 running, 4 left, 1 min to go: final/digits/dense/0/seed1 50.00 % in 20.0 s",
        # One of 300 s, two of the mean over methods, (15 + 300) / 2.
        "3/6 done, 0 running, 3 left, 10 min to go: final/digits/gmp/0.9/seed0 diverged in 300.0 s",
    ]
    again = lines(queue, {("gmp", 1): result(1.0)})
    assert again[0] == "3 of 6 runs were done before."
    assert again[1].startswith("4/6 done")
    assert len(again) == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (90.0, "2 min"), (3600.0, "1 h 00 min"), (9000.0, "2 h 30 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
