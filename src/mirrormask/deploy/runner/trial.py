"""Try to run a model as programs: planned, compared with torch, timed in several part sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from mirrormask.deploy.model_graph import has_hooks, share_copy
from mirrormask.deploy.outputs import output_error
from mirrormask.deploy.runner.any_batch import open_model
from mirrormask.deploy.runner.attached import attach
from mirrormask.deploy.runner.forward import ProgramForward
from mirrormask.deploy.runner.planning import plan
from mirrormask.deploy.runner.reasons import NothingGainsError, UnsupportedError
from mirrormask.deploy.runner.split_forward import SplitForward
from mirrormask.deploy.runner.splitting import split
from mirrormask.deploy.timing import interleave
from mirrormask.kernels import kernels

_ROUNDS = 7
# Largest difference to the model's outputs, over their largest value.
TOLERANCE = 1e-4


def with_program(
    plain: nn.Module,
    compiled: nn.Module,
    inputs: tuple[Any, ...],
    expected: object,
    *,
    part: int | None = None,
) -> nn.Module:
    """Return a copy of ``compiled`` that runs as one program, for any number of examples.

    Outputs are compared on a batch of twice the size, so that a model whose examples depend on each
    other has no program.

    Args:
        plain: The model in ordinary layers, from which the program is planned.
        compiled: The same model, for inputs that the program was not planned for.
        inputs: What the model is called with.
        expected: What it then puts out.
        part: How many examples to work on at a time; the fastest of some if None.

    Raises:
        UnsupportedError: It cannot run as a program; the text says why.
    """
    single = _check(plain, expected)

    def planned(size: int) -> nn.Module:
        description = plan(plain, inputs, part=size)
        model = share_copy(compiled)
        attach(model, ProgramForward(model, description, single=single))
        return model

    return _fastest(planned, plain, inputs, part)


def with_regions(
    plain: nn.Module,
    compiled: nn.Module,
    inputs: tuple[Any, ...],
    expected: object,
    *,
    part: int | None = None,
    slow: Sequence[str] | None = None,
) -> nn.Module:
    """Return a copy of ``compiled`` that runs as programs with torch's operators between them.

    Arguments and errors are those of :func:`with_program`; ``slow`` names the nodes that an earlier
    call left to torch because that was faster.
    """
    single = _check(plain, expected)
    tensors = tuple(value for value in inputs if isinstance(value, torch.Tensor) and value.ndim)
    if not tensors or len(tensors) != len(inputs) or any(not value.is_cpu for value in tensors):
        raise UnsupportedError("inputs that are no tensors [n, ...] on the CPU")
    if any(len(value) != len(tensors[0]) for value in tensors) or not len(tensors[0]):
        raise UnsupportedError("inputs of different batch sizes")
    opened = open_model(plain, _longer(tensors))

    def planned(size: int) -> nn.Module:
        model = share_copy(compiled)
        attach(model, SplitForward(model, split(opened, tensors, size, slow=slow), single=single))
        return model

    return _fastest(planned, plain, inputs, part)


def _check(plain: nn.Module, expected: object) -> bool:
    """Return whether a model puts out a single tensor, or say why it cannot be planned."""
    if kernels() is None:
        raise UnsupportedError("a machine without compiled kernels")
    if not isinstance(expected, torch.Tensor) and type(expected) is not tuple:
        raise UnsupportedError("outputs that are neither a tensor nor a tuple of tensors")
    if any(has_hooks(module) for module in plain.modules()):
        raise UnsupportedError("modules with hooks or parametrizations")
    return isinstance(expected, torch.Tensor)


def _fastest(
    planned: Callable[[int], nn.Module],
    plain: nn.Module,
    inputs: tuple[Any, ...],
    part: int | None,
) -> nn.Module:
    """Return the fastest part size's model among those whose outputs are right."""
    batch = len(inputs[0]) if inputs and isinstance(inputs[0], torch.Tensor) else 0
    # A mean over the batch, for example, is another one for each part.
    refused = UnsupportedError("outputs that differ, or examples that depend on each other")
    models: dict[int, nn.Module] = {}
    for size in _parts(batch) if part is None else [part]:
        try:
            models[size] = planned(size)
        # Larger parts may gain where smaller ones do not.
        except NothingGainsError as reason:
            refused = reason
    longer = _longer(inputs) if models else ()
    wanted = _outputs(plain, longer) if models else ()
    for size, model in list(models.items()):
        if output_error(_outputs(model, longer), wanted) > TOLERANCE:
            del models[size]
    if not models:
        raise refused
    if len(models) == 1:
        return next(iter(models.values()))
    runs = {str(size): _run_of(model, inputs) for size, model in models.items()}
    timings = interleave(runs, rounds=_ROUNDS)
    return models[int(min(runs, key=timings.median))]


def _longer(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Return a batch of twice the size, of numbers as they may come."""
    return tuple(
        torch.cat([value, (0.5 * value if value.is_floating_point() else value).flip(-1)])
        for value in inputs
    )


def _parts(batch: int) -> list[int]:
    """Return the part sizes worth a try: small ones keep what a layer writes in the cache."""
    return sorted({size for size in (1, 4, batch) if batch % size == 0}) if batch else [0]


def _outputs(model: nn.Module, inputs: tuple[Any, ...]) -> object:
    try:
        with torch.inference_mode():
            return model(*inputs)
    # The model's own code may raise anything for another batch than the one it is made for.
    except Exception as error:
        raise UnsupportedError(f"a fixed batch size ({type(error).__name__})") from None


def _run_of(model: nn.Module, inputs: tuple[Any, ...]) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return model(*inputs)

    return run
