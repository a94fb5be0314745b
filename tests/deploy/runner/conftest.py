"""What the tests of the runner share: models that are planned, run and compared with torch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mirrormask.deploy.outputs import output_error
from mirrormask.deploy.runner import plan
from mirrormask.kernels import kernels
from mirrormask.runtime import Description, Program


class Wrapped(nn.Module):
    """A function with modules of its own as a model."""

    def __init__(self, function: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function, self.held = function, nn.ModuleDict(modules)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Compute the function of the modules and the inputs."""
        return self.function(self.held, *inputs)


@pytest.fixture
def wrapped() -> type[nn.Module]:
    """Return the class of models that are a function and its modules."""
    return Wrapped


@pytest.fixture
def thin() -> Callable[..., nn.Module]:
    """Return a function that zeroes a share of a model's weights and gives its norms statistics."""

    def cut(model: nn.Module, sparsity: float = 0.7, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in (p for p in model.parameters() if p.ndim >= 2):
                gone = torch.rand(weight.shape, generator=generator) < sparsity
                weight.masked_fill_(gone, 0.0)
            for name, buffer in model.named_buffers():
                if name.endswith(("running_mean", "running_var")):
                    buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
        return model.eval()

    return cut


@pytest.fixture
def agree() -> Callable[..., Description]:
    """Return a function that plans a model, runs it in every variant and compares with torch."""
    library = kernels()
    if library is None:
        pytest.skip("the kernels are not compiled here")

    def check(
        model: nn.Module,
        *inputs: torch.Tensor,
        part: int | None = None,
        threads: int = 1,
        tolerance: float = 2e-5,
    ) -> Description:
        with torch.no_grad():
            expected = copy.deepcopy(model).double()(*[value.double() for value in inputs])
        description = plan(model, inputs, part=part)
        best = library.variant
        try:
            for variant in library.variants:
                library.variant = variant
                program = Program(description, library)
                # Twice: what the first run leaves in the arena must not matter.
                for _ in range(2):
                    found = program(*[value.numpy() for value in inputs], threads=threads)
                arrays = found if isinstance(found, tuple) else (found,)
                results = [torch.from_numpy(array) for array in arrays]
                wanted = expected if isinstance(expected, tuple) else (expected,)
                assert all(np.isfinite(array).all() for array in arrays)
                error = output_error(results, [value.float() for value in wanted])
                assert error <= tolerance, f"{variant}: {error:.1e}"
        finally:
            library.variant = best
        return description

    return check


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
