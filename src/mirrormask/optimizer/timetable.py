"""What a masking's timetable asks for after a step: cuts, rewinding, balancing anew, phases."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mirrormask.optimizer import rewind
from mirrormask.optimizer.cut import (
    candidates_of,
    freeze,
    is_exact,
    mask_of,
    note_densities,
    restart_idle,
)
from mirrormask.ranks import checksum

if TYPE_CHECKING:
    from mirrormask.optimizer.core import SparseOptimizer


@torch.no_grad()
def follow(optimizer: SparseOptimizer) -> None:
    """Cut, store and rewind as the timetable says after the steps done so far."""
    masking, weights = optimizer.recipe.masking, optimizer.weights.values()
    done, steps = optimizer.steps_done, optimizer.steps
    sparsity = masking.cut_after(done, steps, optimizer.sparsity)
    if sparsity is not None:
        cut(optimizer, choose(optimizer, sparsity))
        if sparsity == optimizer.sparsity and optimizer.recipe.pressure.application == "proximal":
            restart_idle(weights, optimizer.ranks)
    for weight in weights:
        weight.dense_gradient = None
        if not masking.senses(done + 1, steps) and done < steps:
            weight.squares = None
    if masking.stores_after(done, steps):
        optimizer.stored = rewind.store(optimizer.model, weights)
    if done == 0:
        return
    again = masking.rewind_after(done, steps)
    if again is not None:
        if again == "weights":
            rewind.go_back(optimizer.model, weights, optimizer.stored)
        optimizer.base.state.clear()
    if optimizer.recipe.rebalances_after(done, steps):
        for weight in weights:
            weight.rebalance()
    if done < steps and optimizer.phase()[0] == done:
        optimizer.pressure_state = optimizer.recipe.pressure.start(float(optimizer.l1()))
        optimizer.feedback.restore(None)


def is_settled(optimizer: SparseOptimizer) -> bool:
    """Return whether nothing but steps is left: no cut, rewinding, balancing anew or measuring."""
    masking, pressure, steps = optimizer.recipe.masking, optimizer.recipe.pressure, optimizer.steps
    clock, boost = optimizer.clock(), optimizer.recipe.boost
    for ahead in range(steps - optimizer.steps_done):
        step, later = optimizer.steps_done + 1 + ahead, replace(clock, step=clock.step + ahead)
        changes = (
            masking.cut_after(step, steps, optimizer.sparsity) is not None
            or masking.rewind_after(step, steps) is not None
            or masking.needs_gradients(step, steps)
            or masking.senses(step, steps)
            or optimizer.recipe.rebalances_after(step, steps)
            or pressure.measures_at(later)
            or (boost is not None and boost.measures_at(later))
        )
        if changes:
            return False
    return all(weight.cut is not None for weight in optimizer.weights.values())


def choose(optimizer: SparseOptimizer, sparsity: float) -> list[Tensor]:
    """Return the masks of this sparsity that the masking wants now, True where kept."""
    weights = optimizer.weights.values()
    candidates = candidates_of(
        weights,
        step=optimizer.steps_done,
        steps=optimizer.steps,
        seed=optimizer.seed,
    )
    masks = optimizer.recipe.masking.choose(candidates, sparsity)
    return [w.layout.as_stored(mask) for w, mask in zip(weights, masks, strict=True)]


def cut(optimizer: SparseOptimizer, kept: list[Tensor]) -> None:
    """Cut all but these, once all ranks are seen to have chosen the same.

    Raises:
        RankError: If ranks have chosen differently; nothing is cut then.
    """
    if optimizer.ranks.size > 1:
        optimizer.ranks.check_equal(checksum(kept), "the weights that they would keep")
    freeze(optimizer.weights.values(), kept, optimizer.base)
    if optimizer.recipe.boost is not None:
        note_densities(optimizer.weights.values())


def last_masks(optimizer: SparseOptimizer) -> list[Tensor]:
    """Return the masks of the finished model: those in force if they hit the target already."""
    weights = optimizer.weights.values()
    if is_exact(weights, optimizer.sparsity):
        return [mask_of(weight) for weight in weights]
    return choose(optimizer, optimizer.sparsity)
