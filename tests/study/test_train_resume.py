"""Kill the main job at any moment, resume it: the final model is the same to the byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

EPOCHS = 4


def command(out: Path, *more: str) -> list[str]:
    options = ["--data", "digits", "--model", "cnn", "--epochs", str(EPOCHS), "--sparsity", "0.9"]
    return [sys.executable, "-m", "mirrormask", "train", *options, "--out", str(out), *more]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    process = start(command(out))
    text, _ = process.communicate(timeout=200)
    assert process.returncode == 0, text
    return out


def in_first_dense_epoch(out: Path) -> bool:
    return (out / "dense" / "tensorboard").exists()


def between_sparse_epochs(out: Path) -> bool:
    return (out / "sparse" / "last.ckpt").exists()


def while_finishing(out: Path) -> bool:
    return (out / "sparse" / "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("moment", [in_first_dense_epoch, between_sparse_epochs, while_finishing])
def test_killed_and_resumed_run_ends_in_the_same_bytes(
    moment: Callable[[Path], bool], undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = start(command(out))
    deadline = time.monotonic() + 150
    while not moment(out):
        assert process.poll() is None, "the run ended before the moment came"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "report.html").exists()

    resumed = start([sys.executable, "-m", "mirrormask", "train", "--out", str(out), "--resume"])
    text, _ = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, text
    for name in ("model.safetensors", "metrics.csv", "report.json", "dense/model.safetensors"):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert not list(out.rglob("*.part"))
