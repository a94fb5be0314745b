"""The compiled kernels, and what stands for them in the tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from mirrormask.kernels import KernelStatus, Library, active
from mirrormask.kernels.build import BuildError, build, compiler


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The kernels, compiled from the present source, with threads also for the smallest work."""
    try:
        compiler()
    except BuildError as error:
        pytest.skip(str(error))
    target = tmp_path_factory.mktemp("kernels") / "kernels.so"
    return Library(build(target, flags=("-DMM_LEAST_WORK=1",)))


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Build a file that is named, once for all workers of a run: they wait for each other."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def found(name: str, make: Callable[[Path], Path]) -> Path:
        target = root / name
        with FileLock(f"{target}.lock"):
            return target if target.exists() else make(target)

    return found


@pytest.fixture
def fresh_status(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., KernelStatus]]:
    """Load the kernels anew from a given file or under a given wish, and forget it afterwards."""

    def status(path: Path | None = None, wish: str = "") -> KernelStatus:
        monkeypatch.setenv(active.ENVIRONMENT, wish)
        if path is not None:
            monkeypatch.setattr(active, "LIBRARY", path)
        active._load.cache_clear()
        return active.kernel_status()

    yield status
    active._load.cache_clear()


@pytest.fixture
def run() -> Callable[[Path, str], str]:
    """Run a program and return what it printed; its failure fails the test."""

    def call(program: Path, *arguments: str) -> str:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
