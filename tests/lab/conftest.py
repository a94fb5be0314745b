"""One thread, and the paper's problems."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from mirrormask.lab.problems import Problems, sparse_problems


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def problems() -> Problems:
    return sparse_problems(seeds=2, samples=10, features=24, nonzeros=3, start_size=0.2)
