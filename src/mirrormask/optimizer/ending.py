"""The end of a run: the last cut, a plain model, and the report of what came out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mirrormask.optimizer import finish, preconditions, timetable
from mirrormask.optimizer.cut import restart_idle, takes_away
from mirrormask.optimizer.engines import reshard
from mirrormask.report import SparsityReport

if TYPE_CHECKING:
    from mirrormask.optimizer.core import SparseOptimizer


def finalize(optimizer: SparseOptimizer, data: Iterable[Any] | None) -> SparsityReport:
    """Cut to the exact target and let go of the latents, as ``SparseOptimizer.finalize`` says."""
    weights = optimizer.weights.values()
    # All that may fail comes before the cut, so that finalize can be called again.
    with optimizer.ranks.refusing_together():
        if optimizer.places.check():
            reshard(optimizer.model)
        for weight in weights:
            weight.adopt_edits()
        preconditions.check_finite((weight.name, weight.parameter) for weight in weights)
        if data is not None:
            inputs, data = finish.take_first(data)
    optimizer.ranks.agree({})
    kept = timetable.last_masks(optimizer)
    flops: dict[str, int] = {}
    if data is not None:
        flops = finish.count_flops(optimizer.model, inputs)
    elif finish.has_batchnorm(optimizer.model) and takes_away(weights, kept):
        finish.warn_of_stale_statistics()
    timetable.cut(optimizer, kept)
    restart_idle(weights, optimizer.ranks)
    reshard(optimizer.model)
    optimizer.stored = {}
    if data is not None and finish.has_batchnorm(optimizer.model):
        finish.refresh_batchnorm(optimizer.model, data, optimizer.ranks)
        reshard(optimizer.model)
    optimizer.finalized = True
    for weight in weights:
        for slot in weight.slots.values():
            optimizer.base.state.pop(slot, None)
        weight.latents, weight.slots = {}, {}
    optimizer.state.clear()
    return finish.count_zeros(
        optimizer.model,
        [(weight.names, weight.parameter) for weight in weights],
        method=optimizer.method,
        steps=optimizer.steps_done,
        asked=optimizer.sparsity,
        flops=flops,
    )
