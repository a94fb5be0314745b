"""One hypothesis profile for all tests: the same examples in every run, and no clock."""

from __future__ import annotations

import inspect
import multiprocessing
import runpy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from mirrormask.kernels import active

settings.register_profile(
    "mirrormask",
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("mirrormask")

RANK = Path(__file__).with_name("rank_process.py")
RunRanks = Callable[..., list[Any]]


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Switch the compiled kernels off, as the environment can."""
    monkeypatch.setenv(active.ENVIRONMENT, "off")
    active._load.cache_clear()
    yield
    monkeypatch.undo()
    active._load.cache_clear()


@pytest.fixture
def programs_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let compiling keep programs, of whole models or regions, whatever a busy machine measures."""
    from mirrormask.deploy import guard
    from mirrormask.deploy.runner import splitting

    measure = guard._fastest

    def chosen(job: Any, contenders: Any, rounds: int) -> tuple[str, Any]:
        _, timings = measure(job, contenders, rounds)
        return "program", timings

    monkeypatch.setattr(guard, "_fastest", chosen)
    monkeypatch.setattr(splitting, "slow_nodes", lambda *_: ())


@pytest.fixture
def run_ranks(tmp_path: Path) -> RunRanks:
    """Run a function of a test file on ranks that talk by gloo; return what each returned.

    ``run_ranks(2, function, "x")`` calls ``function(rank, 2, "x")`` in two processes, each in a
    network namespace of its own if ``hosts`` names them. What an error on a rank says becomes an
    error here.
    """
    # A server that has imported torch forks a rank in no time; forking pytest itself would take
    # along autograd's threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        # What FSDP and checkpoints would each import on first use.
        [
            "pytest",
            "mirrormask",
            "torch._dynamo",
            "torch.distributed.checkpoint",
            "torch.distributed.fsdp",
        ]
    )

    def run(
        world: int,
        function: Callable[..., Any],
        *arguments: Any,
        hosts: Sequence[dict[str, str]] = (),
    ) -> list[Any]:
        folder = tmp_path / f"ranks-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        job = {
            "world": world,
            "file": inspect.getfile(function),
            "function": function.__name__,
            "arguments": arguments,
            "hosts": hosts,
            "meet": str(folder / "meet"),
            "answers": str(folder),
        }
        processes = [
            context.Process(
                target=runpy.run_path, args=(str(RANK), {"job": job, "rank": rank}, "job")
            )
            for rank in range(world)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout=120)
        for process in processes:
            if process.is_alive():
                process.kill()
        answers = []
        for rank, process in enumerate(processes):
            file = folder / f"{rank}.pt"
            if not file.exists():
                answers.append(f"died with {process.exitcode}")
                continue
            answer = torch.load(file, weights_only=False)
            if "error" in answer:
                raise AssertionError(f"rank {rank} of {world}:\n{answer['error']}")
            answers.append(answer["result"])
        return answers

    return run
