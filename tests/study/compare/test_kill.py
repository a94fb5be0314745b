"""Workers that are killed, stopped or extended lose nothing and repeat nothing."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from mirrormask.study.compare.compare import Place, compare
from mirrormask.study.compare.records import RUNS, Records
from mirrormask.study.compare.settings_file import read_settings

Trials = Callable[[str], list[FrozenTrial]]
Start = Callable[..., "subprocess.Popen[str]"]
QUIET = Console(quiet=True)
TOTAL = 12


def without_clocks(records: Records) -> list[dict[str, Any]]:
    """Return the runs without what a second machine would measure differently."""
    kept = [{k: v for k, v in run.items() if k != "measured"} for run in records.runs]
    assert all("measured" in run for run in records.runs)
    return kept


def in_state(trials: list[FrozenTrial], state: TrialState) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == state]


@pytest.mark.slow
def test_killed_worker_loses_and_repeats_nothing(
    tiny: Path, tmp_path: Path, start: Start, trials: Trials, wait_for: Callable[..., None]
) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    common = ("--settings", tiny, "--storage", url, "--patience", 2)
    victim = start(*common, "--out", tmp_path / "b")
    wait_for((tmp_path / "shared.db").exists)

    def caught_at_work() -> bool:
        victim.send_signal(signal.SIGSTOP)
        if in_state(trials(url), TrialState.RUNNING):
            return True
        victim.send_signal(signal.SIGCONT)
        return False

    wait_for(caught_at_work)
    done = len(in_state(trials(url), TrialState.COMPLETE))
    other = start(*common, "--out", tmp_path / "a")
    wait_for(lambda: len(in_state(trials(url), TrialState.COMPLETE)) > done)
    victim.kill()
    victim.wait()
    again = start(*common, "--out", tmp_path / "b")
    assert other.wait(240) == 0
    assert again.wait(240) == 0

    finished = in_state(trials(url), TrialState.COMPLETE)
    counts = Counter(trial.user_attrs["run"] for trial in finished)
    assert set(counts.values()) == {1}
    assert len(counts) == TOTAL
    assert in_state(trials(url), TrialState.FAIL), "the killed run must have been given up"
    assert not in_state(trials(url), TrialState.RUNNING)

    undisturbed = compare(read_settings(tiny), Place(folder=tmp_path / "calm"), QUIET)
    for folder in ("a", "b"):
        found = Records.read(tmp_path / folder / RUNS)
        assert without_clocks(found) == without_clocks(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_stop_gives_runs_back_at_once(
    workers: int,
    tiny: Path,
    tmp_path: Path,
    start: Start,
    trials: Trials,
    wait_for: Callable[..., None],
) -> None:
    url = f"sqlite:///{tmp_path / 'out' / 'study.db'}"
    process = start("--settings", tiny, "--out", tmp_path / "out", "--workers", workers)
    wait_for((tmp_path / "out" / "study.db").exists)
    wait_for(lambda: len(in_state(trials(url), TrialState.COMPLETE)) >= 1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the command
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert not in_state(trials(url), TrialState.RUNNING)
    done = len(in_state(trials(url), TrialState.COMPLETE))
    assert 1 <= done < TOTAL
    # What is there can be looked at in the meantime.
    assert len(Records.read(tmp_path / "out" / RUNS).runs) == done
    records = compare(read_settings(tiny), Place(folder=tmp_path / "out"), QUIET)
    assert len(records.runs) == TOTAL
    assert len(in_state(trials(url), TrialState.COMPLETE)) == TOTAL
