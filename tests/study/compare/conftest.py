"""A comparison so small that it runs in seconds, and its command in processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import OptunaError
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

TINY = """
name: tiny
problems:
  - {name: digits-mlp, data: digits, model: mlp, epochs: 6, batch_size: 32}
methods: [pilot, gmp]
sparsities: [0.9]
trials: 2
seeds: 2
"""
RUNS = 3 * (2 + 2)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Write the settings of the tiny comparison."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command in a process of its own, killed at the end if it still runs."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mirrormask", "compare", *map(str, arguments)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def trials() -> Callable[[str], list[FrozenTrial]]:
    """Read the trials of the study at a URL, apart from the queue under test."""

    def read(url: str) -> list[FrozenTrial]:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            return optuna.load_study(study_name="tiny", storage=url).get_trials(deepcopy=False)
        except (KeyError, SQLAlchemyError, OptunaError):
            return []  # not made yet, or half made

    return read


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """Wait until something holds, for at most a minute."""

    def wait(holds: Callable[[], bool], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.05)

    return wait
