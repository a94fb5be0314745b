"""The same study driven through a PostgreSQL server by two processes, as on two machines."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState

from mirrormask.study.compare.records import RUNS, Records

TOTAL = 12


def programs() -> Path | None:
    """Return the folder of initdb and pg_ctl, on the path or where Debian has it."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


@pytest.fixture
def server() -> Iterator[str]:
    """Start a server of its own on a socket in a temporary folder; yield its URL."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed")
    user = pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() == 0:  # the server refuses to run as root
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            pytest.skip("tests run as root and there is no user 'postgres' to run a server as")

    def call(program: str, *arguments: str) -> None:
        command = [str(folder / program), *arguments]
        # Not inherited: a server in the background would hold the test's own output open.
        subprocess.run(
            command,
            user=None if os.getuid() else user,
            extra_groups=None if os.getuid() else [],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    # The path of a socket has to be short.
    place = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    shutil.chown(place, user)
    data = str(place / "data")
    call("initdb", "-D", data, "-A", "trust", "-U", "tester", "--no-sync")
    options = f"-k {place} -c listen_addresses='' -F"
    call("pg_ctl", "-D", data, "-w", "-l", str(place / "log"), "-o", options, "start")
    yield f"postgresql+psycopg://tester@/postgres?host={place}"
    call("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    shutil.rmtree(place)


@pytest.mark.slow
def test_two_processes_on_one_server_share_all_runs(
    server: str,
    tiny: Path,
    tmp_path: Path,
    start: Callable[..., subprocess.Popen[str]],
    trials: Callable[[str], list[FrozenTrial]],
) -> None:
    processes = [
        start("--settings", tiny, "--storage", server, "--out", tmp_path / name) for name in "ab"
    ]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    finished = [trial for trial in trials(server) if trial.state == TrialState.COMPLETE]
    counts = Counter(trial.user_attrs["run"] for trial in finished)
    assert set(counts.values()) == {1}
    assert len(counts) == TOTAL
    first, second = (Records.read(tmp_path / name / RUNS) for name in "ab")
    assert first.runs == second.runs
    assert len(first.runs) == TOTAL
