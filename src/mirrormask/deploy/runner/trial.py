"""Try to run a model as programs: planned, compared with torch, timed in several part sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mirrormask.deploy.model_graph import has_hooks, share_copy
from mirrormask.deploy.outputs import output_error
from mirrormask.deploy.runner.any_batch import open_model
from mirrormask.deploy.runner.attached import attach
from mirrormask.deploy.runner.forward import ProgramForward
from mirrormask.deploy.runner.planning import plan
from mirrormask.deploy.runner.reasons import PartError, UnsupportedError
from mirrormask.deploy.runner.split_forward import SplitForward
from mirrormask.deploy.runner.splitting import split
from mirrormask.deploy.timing import interleave
from mirrormask.kernels import kernels

Given = tuple[tuple[Any, ...], Mapping[str, Any]]
"""What a model is called with, by position and by keyword."""
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
    _check(plain)
    if not isinstance(expected, torch.Tensor) and type(expected) is not tuple:
        raise UnsupportedError("outputs that are neither a tensor nor a tuple of tensors")
    single = isinstance(expected, torch.Tensor)

    def planned(size: int) -> nn.Module:
        description = plan(plain, inputs, part=size)
        model = share_copy(compiled)
        attach(model, ProgramForward(model, description, single=single))
        return model

    return _fastest(planned, plain, (inputs, {}), part)


def with_regions(
    plain: nn.Module,
    compiled: nn.Module,
    inputs: tuple[Any, ...],
    *,
    keywords: Mapping[str, Any] | None = None,
    part: int | None = None,
    slow: Sequence[str] | None = None,
) -> nn.Module:
    """Return a copy of ``compiled`` that runs as programs with torch's operators between them.

    Arguments and errors are those of :func:`with_program`; the model may take ``keywords`` and put
    its outputs into what it likes. ``slow`` names the nodes that an earlier call left to torch
    because that was faster.
    """
    _check(plain)
    keywords = keywords or {}
    every = (*inputs, *keywords.values())
    if not every or not all(_has_examples(value) for value in every):
        raise UnsupportedError("inputs that are no tensors [n, ...] on the CPU")
    if any(len(value) != len(every[0]) for value in every):
        raise UnsupportedError("inputs of different batch sizes")
    opened = open_model(plain, *_longer((inputs, keywords)))
    tensors = (*inputs, *(keywords[name] for name in opened.names))

    def planned(size: int) -> nn.Module:
        model = share_copy(compiled)
        attach(model, SplitForward(model, split(opened, tensors, size, slow=slow)))
        return model

    return _fastest(planned, plain, (inputs, keywords), part)


def _has_examples(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_cpu and value.ndim > 0 and len(value) > 0


def _check(plain: nn.Module) -> None:
    """Raise where no model like this one can be planned."""
    if kernels() is None:
        raise UnsupportedError("a machine without compiled kernels")
    if any(has_hooks(module) for module in plain.modules()):
        raise UnsupportedError("modules with hooks or parametrizations")


def _fastest(
    planned: Callable[[int], nn.Module], plain: nn.Module, given: Given, part: int | None
) -> nn.Module:
    """Return the fastest part size's model among those whose outputs are right."""
    first = next(iter((*given[0], *given[1].values())), None)
    batch = len(first) if isinstance(first, torch.Tensor) else 0
    # A mean over the batch, for example, is another one for each part.
    refused = UnsupportedError("outputs that differ, or examples that depend on each other")
    models: dict[int, nn.Module] = {}
    for size in _parts(batch) if part is None else [part]:
        try:
            models[size] = planned(size)
        except PartError as reason:
            refused = reason
    longer = _longer(given) if models else given
    for size, model in list(models.items()):
        # One example alone may take another way through a model than several.
        for batch_given in (longer, _some(given, size)):
            wanted = _outputs(plain, batch_given)
            if output_error(_outputs(model, batch_given), wanted) > TOLERANCE:
                models.pop(size, None)
    if not models:
        raise refused
    if len(models) == 1:
        return next(iter(models.values()))
    runs = {str(size): _run_of(model, given) for size, model in models.items()}
    timings = interleave(runs, rounds=_ROUNDS)
    return models[int(min(runs, key=timings.median))]


def _longer(given: Given) -> Given:
    """Return a batch of twice the size, of numbers as they may come."""

    def twice(value: torch.Tensor) -> torch.Tensor:
        return torch.cat([value, (0.5 * value if value.is_floating_point() else value).flip(-1)])

    inputs, keywords = given
    return tuple(map(twice, inputs)), {name: twice(value) for name, value in keywords.items()}


def _some(given: Given, count: int) -> Given:
    """Return the first examples."""
    inputs, keywords = given
    return tuple(x[:count] for x in inputs), {name: x[:count] for name, x in keywords.items()}


def _parts(batch: int) -> list[int]:
    """Return the part sizes worth a try: small ones keep what a layer writes in the cache."""
    return sorted({size for size in (1, 4, batch) if batch % size == 0}) if batch else [0]


def _outputs(model: nn.Module, given: Given) -> object:
    try:
        return _run_of(model, given)()
    # The model's own code may raise anything for another batch than the one it is made for.
    except Exception as error:
        raise UnsupportedError(f"a fixed batch size ({type(error).__name__})") from None


def _run_of(model: nn.Module, given: Given) -> Callable[[], object]:
    inputs, keywords = given

    def run() -> object:
        with torch.inference_mode():
            return model(*inputs, **keywords)

    return run
