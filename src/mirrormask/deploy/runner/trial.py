"""Try to run a whole model as a program: planned, compared with torch, timed in its part sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mirrormask.deploy.model_graph import has_hooks, share_copy
from mirrormask.deploy.runner.forward import attach, program_of
from mirrormask.deploy.runner.planning import plan
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.timing import interleave
from mirrormask.kernels import kernels

_ROUNDS = 7


def with_program(
    plain: nn.Module,
    compiled: nn.Module,
    inputs: tuple[Any, ...],
    expected: object,
    *,
    part: int | None = None,
) -> nn.Module:
    """Return a copy of ``compiled`` that runs as a program.

    Args:
        plain: The model in ordinary layers, from which the program is planned.
        compiled: The same model, for inputs that the program was not planned for.
        inputs: What the model is called with.
        expected: What it then puts out.
        part: How many examples to work on at a time; the fastest of some if None.

    Raises:
        UnsupportedError: It cannot run as a program; the text says why.
    """
    if kernels() is None:
        raise UnsupportedError("a machine without compiled kernels")
    if not isinstance(expected, torch.Tensor) and type(expected) is not tuple:
        raise UnsupportedError("outputs that are neither a tensor nor a tuple of tensors")
    if any(has_hooks(module) for module in plain.modules()):
        raise UnsupportedError("modules with hooks or parametrizations")
    single = isinstance(expected, torch.Tensor)
    batch = len(inputs[0]) if inputs and isinstance(inputs[0], torch.Tensor) else 0
    models = {
        size: _attached(plain, compiled, inputs, size, single=single)
        for size in (_parts(batch) if part is None else [part])
    }
    if len(models) == 1:
        return next(iter(models.values()))
    runs = {str(size): _run_of(model, inputs) for size, model in models.items()}
    timings = interleave(runs, rounds=_ROUNDS)
    return models[int(min(runs, key=timings.median))]


def steps_of(model: nn.Module) -> int:
    """Return of how many steps a model's program consists."""
    forward = program_of(model)
    return 0 if forward is None else len(forward.description.steps)


def _parts(batch: int) -> list[int]:
    """Return the part sizes worth a try: small ones keep what a layer writes in the cache."""
    return sorted({size for size in (1, 4, batch) if batch % size == 0}) if batch else [0]


def _attached(
    plain: nn.Module, compiled: nn.Module, inputs: tuple[Any, ...], part: int, *, single: bool
) -> nn.Module:
    description = plan(plain, inputs, part=part)
    model = share_copy(compiled)
    attach(model, description, single=single)
    return model


def _run_of(model: nn.Module, inputs: tuple[Any, ...]) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return model(*inputs)

    return run
