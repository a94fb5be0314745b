"""What the deployment tests share: sparse models, comparison of bits, one hypothesis profile."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import nn

settings.register_profile(
    "deploy",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("deploy")


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
