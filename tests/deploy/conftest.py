"""What the deployment tests share: sparse models, comparison of bits."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from mirrormask.deploy import inspect, load, save
from mirrormask.deploy.manifest import Values
from mirrormask.errors import CheckpointError, DataError

_EXTRA_MEMORY = 512 * 2**20


def _bits(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().resolve_conj().resolve_neg().clone().reshape(-1)
    return (
        flat.as_strided((flat.numel(),), (1,)).view(torch.uint8).numpy().tobytes()
        if flat.numel()
        else b""
    )


def _same(left: torch.Tensor, right: torch.Tensor) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and _bits(left) == _bits(right)


def _sparsify(model: nn.Module, sparsity: float, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                cut = torch.rand(parameter.shape, generator=generator) < sparsity
                parameter.masked_fill_(cut, 0.0)
    return model


@pytest.fixture
def same_bits() -> Callable[[torch.Tensor, torch.Tensor], bool]:
    """Tell whether two tensors agree in type, shape and every bit."""
    return _same


@pytest.fixture
def sparsify() -> Callable[..., nn.Module]:
    """Set a share of all weights of two or more dimensions to zero, in place."""
    return _sparsify


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def _small_state() -> dict[str, torch.Tensor]:
    """Return tensors that use every layout, small enough to be loaded ten thousand times."""
    generator = torch.Generator().manual_seed(1)

    def sparse(count: int, share: float) -> torch.Tensor:
        values = torch.randn(count, generator=generator)
        return values.masked_fill(torch.rand(count, generator=generator) < share, 0.0)

    even = torch.zeros(4000)
    even[::200] = 1.5
    signed = sparse(2000, 0.9)
    shared = sparse(3000, 0.5).reshape(30, 100)
    return {
        "rice": sparse(3000, 0.9).reshape(30, 100),
        "mask": shared,
        "again": shared,
        "gaps": even,
        "signed": torch.where(signed == 0, -0.0, signed),
        "flags": sparse(3000, 0.97) != 0,
        "counts": torch.arange(5),
        "scalar": torch.tensor(float("nan")),
        "wide": sparse(400, 0.9).to(torch.complex128),
        "empty": torch.empty(0, 7),
    }


@pytest.fixture(scope="session")
def originals(
    tmp_path_factory: pytest.TempPathFactory,
) -> list[tuple[bytes, dict[str, torch.Tensor]]]:
    """Packed files, exact and lossy, with what loading them gives."""
    folder = tmp_path_factory.mktemp("originals")
    found = []
    kinds: tuple[Values, ...] = ("exact", "int8")
    for values in kinds:
        path = folder / values
        save(_small_state(), path, values=values)
        found.append((path.read_bytes(), load(path)))
    layouts = {row.layout for row in inspect(folder / "exact").rows}
    assert layouts == {"rice", "bitmask", "tied to mask", "gaps8", "dense"}
    return found


@pytest.fixture
def mutants(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: replacing a file on disk costs milliseconds."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Let the process grow by no more than half a gigabyte: a huge allocation then fails."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + _EXTRA_MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def _try_load(path: Path, raw: bytes) -> dict[str, torch.Tensor] | None:
    """Return the loaded state, or None after one clear error within a second."""
    path.write_bytes(raw)
    # Processor time: a busy machine may stop any process for a second.
    begin = time.process_time()
    try:
        return load(path)
    except (CheckpointError, DataError) as error:
        assert str(path) in str(error)
        assert len(str(error)) < 600
        assert "\n" not in str(error)
        return None
    finally:
        assert time.process_time() - begin < 1.0


@pytest.fixture
def try_load() -> Callable[[Path, bytes], dict[str, torch.Tensor] | None]:
    """Load damaged bytes: the state, or None after one clear error within a second."""
    return _try_load
