"""What follows the last cut: BatchNorm statistics, FLOPs, and the count of zeros."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.flop_counter import FlopCounterMode

from mirrormask.errors import ArgumentError
from mirrormask.masking import zeros_asked
from mirrormask.report import SparsityReport, TensorSparsity

_COUNTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def has_batchnorm(model: nn.Module) -> bool:
    """Return whether the model keeps running statistics that a cut makes stale."""
    return any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
        for module in model.modules()
    )


def refresh_batchnorm(model: nn.Module, data: Iterable[Any]) -> None:
    """Re-estimate all BatchNorm statistics as plain averages over the batches."""
    if has_batchnorm(model):
        parameter = next(model.parameters())
        update_bn(data, model, device=parameter.device)


def count_flops(model: nn.Module, data: Iterable[Any]) -> dict[str, int]:
    """Return the FLOPs of a forward pass on one example by module name, ``""`` for the whole.

    Args:
        model: Any module.
        data: Batches; the first one is used, and its FLOPs are divided by its length.

    Raises:
        ArgumentError: If there is no batch.
    """
    batch = next(iter(data), None)
    if batch is None:
        raise ArgumentError("data holds no batch: pass a loader that yields at least one.")
    inputs = batch[0] if isinstance(batch, list | tuple) else batch
    inputs = inputs.to(next(model.parameters()).device)
    training = model.training
    model.eval()
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(inputs)
    finally:
        model.train(training)
    root = type(model).__name__
    totals = {
        name.removeprefix(root).removeprefix("."): sum(ops.values()) // len(inputs)
        for name, ops in counter.get_flop_counts().items()
        if name == root or name.startswith(root + ".")
    }
    return totals | {"": counter.get_total_flops() // len(inputs)}


def count_zeros(
    model: nn.Module,
    targets: Sequence[tuple[str, Tensor]],
    *,
    method: str,
    steps: int,
    asked: float,
    flops: Mapping[str, int],
) -> SparsityReport:
    """Return the report of a model, every zero counted from its tensors."""
    modules = dict(model.named_modules())
    counted = {id(tensor) for _, tensor in targets}
    others = [p for p in model.parameters() if id(p) not in counted]
    rows = []
    for name, tensor in targets:
        owner = name.rpartition(".")[0]
        is_counted = isinstance(modules.get(owner), _COUNTED)
        rows.append(
            TensorSparsity(
                name=name,
                shape=tuple(tensor.shape),
                weights=tensor.numel(),
                zeros=int((tensor == 0).sum()),
                flops=flops.get(owner) if is_counted else None,
            )
        )
    return SparsityReport(
        method=method,
        steps=steps,
        asked=asked,
        asked_zeros=zeros_asked(asked, sum(row.weights for row in rows)),
        tensors=tuple(rows),
        other_weights=sum(p.numel() for p in others),
        other_zeros=sum(int((p == 0).sum()) for p in others),
        flops=flops.get(""),
    )
