"""What follows the last cut: BatchNorm statistics, FLOPs, and the count of zeros."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.flop_counter import FlopCounterMode

from mirrormask.errors import ArgumentError, MirrormaskWarning
from mirrormask.masking import zeros_asked
from mirrormask.names import plain_name
from mirrormask.ranks import Ranks, count_true
from mirrormask.report import SparsityReport, TensorSparsity

_COUNTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def has_batchnorm(model: nn.Module) -> bool:
    """Return whether the model keeps running statistics that a cut makes stale."""
    return any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
        for module in model.modules()
    )


def warn_of_stale_statistics() -> None:
    """Say that a cut without data leaves BatchNorm as it was."""
    warnings.warn(
        "Weights are cut after the last step and the BatchNorm statistics are those of before: "
        "pass training batches, finalize(data=loader).",
        MirrormaskWarning,
        stacklevel=5,  # past the ending, finalize and its no_grad
    )


def refresh_batchnorm(model: nn.Module, data: Iterable[Any], ranks: Ranks) -> None:
    """Re-estimate all BatchNorm statistics as plain averages over the batches of all ranks."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    with modes_kept(model):
        try:
            update_bn(data, model, device=next(model.parameters()).device)
        finally:  # a batch that fails must not leave averages over the whole history switched on
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    for norm in norms:
        for statistic in (norm.running_mean, norm.running_var):
            if statistic is not None:
                ranks.mean(statistic)


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Put every module back into its own mode, training or evaluation, on leaving."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def take_first(data: Iterable[Any]) -> tuple[Tensor, Iterator[Any]]:
    """Return the input of the first batch, and all batches, from one pass over the data.

    Raises:
        ArgumentError: If there is no batch, or a batch does not start with a tensor.
    """
    batches = iter(data)
    first = next(batches, None)
    if first is None:
        raise ArgumentError("data holds no batch: pass a loader that yields at least one.")
    inputs = first[0] if isinstance(first, list | tuple) and first else first
    if not isinstance(inputs, Tensor) or inputs.ndim == 0 or len(inputs) == 0:
        raise ArgumentError(
            f"data yields {type(first).__name__}, from which no input can be read: yield tensors, "
            "or tuples whose first part is the input."
        )
    return inputs, itertools.chain([first], batches)


def count_flops(model: nn.Module, inputs: Tensor) -> dict[str, int]:
    """Return the FLOPs of a forward pass on one example by module name, ``""`` for the whole.

    Args:
        model: Any module.
        inputs: A batch; its FLOPs are divided by its length.
    """
    with modes_kept(model), FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()
        model(inputs.to(next(model.parameters()).device))
    root = type(model).__name__
    totals = {
        plain_name(name.removeprefix(root).removeprefix(".")): sum(ops.values()) // len(inputs)
        for name, ops in counter.get_flop_counts().items()
        if name == root or name.startswith(root + ".")
    }
    return totals | {"": counter.get_total_flops() // len(inputs)}


def count_zeros(
    model: nn.Module,
    targets: Sequence[tuple[Sequence[str], Tensor]],
    *,
    method: str,
    steps: int,
    asked: float,
    flops: Mapping[str, int],
) -> SparsityReport:
    """Return the report of a model, every zero counted from its tensors.

    Args:
        model: The model.
        targets: Each with all its names, the first one for the report.
        method: Its name.
        steps: Steps done.
        asked: Sparsity asked for.
        flops: What :func:`count_flops` returned, or nothing.
    """
    modules = {plain_name(n): m for n, m in model.named_modules(remove_duplicate=False)}
    counted = {id(tensor) for _, tensor in targets}
    others = [p for p in model.parameters() if id(p) not in counted]
    zeros = count_true([tensor == 0 for _, tensor in targets]).tolist()
    other_zeros = int(count_true([p == 0 for p in others]).sum()) if others else 0
    rows = []
    for (names, tensor), tensor_zeros in zip(targets, zeros, strict=True):
        # A tied weight works in every layer that holds it.
        owners = [name.rpartition(".")[0] for name in names]
        owners = [owner for owner in owners if isinstance(modules.get(owner), _COUNTED)]
        rows.append(
            TensorSparsity(
                name=names[0],
                shape=tuple(tensor.shape),
                weights=tensor.numel(),
                zeros=tensor_zeros,
                flops=sum(flops.get(owner, 0) for owner in owners) if flops and owners else None,
            )
        )
    return SparsityReport(
        method=method,
        steps=steps,
        asked=asked,
        asked_zeros=zeros_asked(asked, sum(row.weights for row in rows)),
        tensors=tuple(rows),
        other_weights=sum(p.numel() for p in others),
        other_zeros=other_zeros,
        flops=flops.get(""),
    )
