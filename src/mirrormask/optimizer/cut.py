"""Cuts across all weights of a run: which stay, what a cut takes away, and freezing it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor
from torch.optim import Optimizer

from mirrormask.masking import Scope, keep_at
from mirrormask.optimizer.latent_weight import LatentWeight


def choose(weights: Collection[LatentWeight], sparsity: float, scope: Scope) -> list[Tensor]:
    """Return masks of this sparsity, True where kept, by the magnitudes in full precision."""
    return keep_at([weight.weight().abs() for weight in weights], sparsity, scope)


def takes_away(weights: Collection[LatentWeight], kept: Sequence[Tensor]) -> bool:
    """Return whether a cut to these changes any weight; asks the device."""
    pairs = zip(weights, kept, strict=True)
    return any(bool(weight.weight()[~keep].any()) for weight, keep in pairs)


def freeze(weights: Collection[LatentWeight], kept: Sequence[Tensor], base: Optimizer) -> None:
    """Cut all but these, in the value and in every buffer, so that nothing revives the rest."""
    for weight, keep in zip(weights, kept, strict=True):
        cut = ~keep
        weight.set_cut(cut)
        for slot in weight.slots.values():
            for value in base.state.get(slot, {}).values():
                if isinstance(value, Tensor) and value.shape == cut.shape:
                    value.masked_fill_(cut, 0)
