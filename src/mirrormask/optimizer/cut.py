"""Cuts across all weights of a run: which stay, what a cut takes away, and freezing it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from mirrormask.masking import Candidates, zeros_asked
from mirrormask.optimizer.latent_weight import LatentWeight
from mirrormask.optimizer.randomness import generator_for


def candidates_of(
    weights: Collection[LatentWeight], *, step: int, steps: int, seed: int
) -> Candidates:
    """Return what a masking sees after a step: magnitudes in full precision, masks, gradients.

    All with outputs in dimension 0 and inputs in dimension 1, however they are stored.
    """
    gradients = [weight.dense_gradient for weight in weights]
    known = [
        weight.layout.outputs_first(gradient)
        for weight, gradient in zip(weights, gradients, strict=True)
        if gradient is not None
    ]
    return Candidates(
        magnitudes=[weight.layout.outputs_first(weight.weight().abs()) for weight in weights],
        kept=[weight.layout.outputs_first(mask_of(weight)) for weight in weights],
        gradients=known if len(known) == len(gradients) else None,
        step=step,
        steps=steps,
        generator=generator_for(seed, step),
    )


def mask_of(weight: LatentWeight) -> Tensor:
    """Return the mask in force, True where the weight is kept."""
    cut = weight.cut
    return torch.ones_like(weight.parameter, dtype=torch.bool) if cut is None else ~cut


def is_exact(weights: Collection[LatentWeight], sparsity: float) -> bool:
    """Return whether the masks in force have just the zeros asked for; asks the device."""
    cuts = [weight.cut for weight in weights]
    zeros = sum(int(cut.sum()) for cut in cuts if cut is not None)
    return zeros == zeros_asked(sparsity, sum(weight.parameter.numel() for weight in weights))


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
