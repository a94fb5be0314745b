"""What must hold before anything is touched: the run, its time, the base, the weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mirrormask.errors import (
    ArgumentError,
    LifecycleError,
    MirrormaskWarning,
    NonFiniteError,
    OptimizerError,
)
from mirrormask.geometry import Geometry
from mirrormask.ranks import local_part
from mirrormask.selection import Target

if TYPE_CHECKING:
    from mirrormask.optimizer.core import SparseOptimizer


def check_run(sparsity: object, steps: object) -> tuple[float, int]:
    """Return both as plain numbers, or refuse what is outside their domains."""
    if isinstance(sparsity, bool) or not isinstance(sparsity, Real) or not 0 <= float(sparsity) < 1:
        raise ArgumentError(
            f"sparsity={sparsity!r} is no fraction of zeros: use a number in [0, 1), such as 0.95 "
            "for 95 %."
        )
    if isinstance(steps, bool) or not isinstance(steps, Integral) or int(steps) <= 0:
        raise ArgumentError(
            f"steps={steps!r} is no length of a run: give the number of optimizer steps, a whole "
            "number of at least 1."
        )
    return float(sparsity), int(steps)


def check_seed(seed: object) -> None:
    """Refuse what is no seed."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or int(seed) < 0:
        raise ArgumentError(f"seed={seed!r} is no seed: use a whole number of at least 0.")


def check_base(base: object, targets: Sequence[Target]) -> None:
    """Refuse what is no optimizer, or one that does not hold all selected tensors."""
    if not isinstance(base, Optimizer):
        raise OptimizerError(
            f"{type(base).__name__} is no torch.optim.Optimizer: pass the optimizer itself, before "
            "any wrapper of a training framework."
        )
    if isinstance(base, torch.optim.LBFGS):
        raise OptimizerError(
            "LBFGS evaluates the loss several times a step, which latents cannot follow: use SGD, "
            "Adam, AdamW, RMSprop or another first-order optimizer."
        )
    held = {parameter for group in base.param_groups for parameter in group["params"]}
    missing = [target.name for target in targets if target.parameter not in held]
    if missing:
        raise OptimizerError(
            f"The optimizer does not hold {len(missing)} of the {len(targets)} selected weights "
            f"({missing[0]!r} is the first): build it from this model's parameters(), or exclude "
            "them."
        )


def check_base_can_move(base: Optimizer, geometry: Geometry) -> None:
    """Refuse an optimizer that reads what it moves, where that is zero before each step."""
    if not geometry.moves_increments:
        return
    reads = None
    if isinstance(base, torch.optim.Adafactor):
        reads = "goes by the size"
    elif any("train_mode" in group for group in base.param_groups):
        reads = "keeps an average"  # schedule-free ones
    if reads is not None:
        raise OptimizerError(
            f"{type(base).__name__} {reads} of what it moves, and {type(geometry).__name__} gives "
            "it increments that start at zero: use method='pilot-factors', or SGD, Adam, AdamW, "
            "RMSprop."
        )


@torch.no_grad()
def check_finite(tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Refuse NaN and infinity; asks the device once a tensor, so never call it in a step.

    Of a sharded tensor only the part that is here is looked at.
    """
    for name, tensor in tensors:
        if not torch.isfinite(local_part(tensor)).all():
            raise NonFiniteError(
                f"Weight {name!r} holds NaN or infinite values: lower the learning rate, or go "
                "back to the last good checkpoint."
            )


def warn_of_weight_decay(
    groups: Sequence[dict[str, Any]], targets: Sequence[Target], method: str
) -> None:
    """Say once that the caller's weight decay will not act on the targets."""
    held = {target.parameter for target in targets}
    decayed = [
        group["weight_decay"]
        for group in groups
        if group.get("weight_decay") and any(p in held for p in group["params"])
    ]
    if decayed:
        warnings.warn(
            f"weight_decay={decayed[0]} is switched off for the {len(targets)} tensors that "
            f"{method!r} makes sparse, where it would be a second L1 penalty; other parameters "
            "keep it.",
            MirrormaskWarning,
            stacklevel=5,  # past entry, the optimizer and sparsify
        )


def refuse_finalized(optimizer: SparseOptimizer, call: str) -> None:
    """Refuse a call that needs latents once there are none."""
    if optimizer.finalized:
        raise LifecycleError(
            f"{call} was called after finalize: the model is plain now and its report was returned "
            "then; to train it further, wrap a new optimizer with sparsify."
        )


def refuse_late_step(optimizer: SparseOptimizer) -> None:
    """Refuse a step beyond those announced."""
    if optimizer.steps_done >= optimizer.steps:
        raise LifecycleError(
            f"step {optimizer.steps_done + 1} is more than the steps={optimizer.steps} announced: "
            "announce the optimizer steps of the whole run (epochs x batches, divided by gradient "
            "accumulation)."
        )
