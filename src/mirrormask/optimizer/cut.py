"""Cuts across all weights of a run: which stay, what a cut takes away, and freezing it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from mirrormask.masking import Candidates, zeros_asked
from mirrormask.optimizer.latent_weight import LatentWeight
from mirrormask.optimizer.randomness import generator_for
from mirrormask.ranks import Ranks, count_true, local_part


def candidates_of(
    weights: Collection[LatentWeight], *, step: int, steps: int, seed: int
) -> Candidates:
    """Return what a masking sees after a step: magnitudes in full precision, masks, gradients.

    All with outputs in dimension 0 and inputs in dimension 1, however they are stored.
    """
    return Candidates(
        magnitudes=[_present(weight, weight.weight().abs()) for weight in weights],
        kept=[weight.layout.outputs_first(mask_of(weight)) for weight in weights],
        gradients=_all_or_none(weights, [weight.dense_gradient for weight in weights]),
        squares=_all_or_none(weights, [weight.squares for weight in weights]),
        step=step,
        steps=steps,
        generator=generator_for(seed, step),
    )


def _all_or_none(
    weights: Collection[LatentWeight], parts: Sequence[Tensor | None]
) -> list[Tensor] | None:
    pairs = zip(weights, parts, strict=True)
    known = [_present(weight, part) for weight, part in pairs if part is not None]
    return known if len(known) == len(weights) else None


def _present(weight: LatentWeight, part: Tensor) -> Tensor:
    return weight.layout.outputs_first(weight.wrap(part))


def mask_of(weight: LatentWeight) -> Tensor:
    """Return the mask in force, True where the weight is kept, sharded as the weight is."""
    cut = weight.cut
    kept = torch.ones_like(weight.local, dtype=torch.bool) if cut is None else ~cut
    return weight.wrap(kept)


def is_exact(weights: Collection[LatentWeight], sparsity: float) -> bool:
    """Return whether the masks in force have just the zeros asked for; asks the device."""
    total = sum(weight.parameter.numel() for weight in weights)
    kept = int(count_true([mask_of(weight) for weight in weights]).sum())
    return total - kept == zeros_asked(sparsity, total)


def takes_away(weights: Collection[LatentWeight], kept: Sequence[Tensor]) -> bool:
    """Return whether a cut to these changes any weight that is here; asks the device."""
    pairs = zip(weights, kept, strict=True)
    return any(bool(weight.weight()[~local_part(keep)].any()) for weight, keep in pairs)


def restart_idle(weights: Collection[LatentWeight], ranks: Ranks) -> None:
    """Move kept weights off an exact zero, to the smallest live magnitude of their tensor."""
    smallest = [weight.smallest() for weight in weights]
    if any(weight.box is not None for weight in weights):
        home = smallest[0].device
        least = ranks.least(torch.stack([one.to(home, torch.float64) for one in smallest]))
        smallest = [one.to(w.device, w.dtype) for one, w in zip(least, weights, strict=True)]
    for weight, value in zip(weights, smallest, strict=True):
        weight.restart_idle(value)


def freeze(weights: Collection[LatentWeight], kept: Sequence[Tensor], base: Optimizer) -> None:
    """Cut all but these, in the value and in every buffer, so that nothing revives the rest."""
    for weight, keep in zip(weights, kept, strict=True):
        cut = ~local_part(keep)
        weight.set_cut(cut)
        for slot in weight.slots.values():
            for value in base.state.get(slot, {}).values():
                if isinstance(value, Tensor) and value.shape == cut.shape:
                    value.masked_fill_(cut, 0)


def note_densities(weights: Collection[LatentWeight]) -> None:
    """Let each weight that is masked know the part of it, on all ranks, that is kept."""
    masked = [weight for weight in weights if weight.cut is not None]
    if not masked:
        return
    counts = count_true([mask_of(weight) for weight in masked])
    for weight, count in zip(masked, counts, strict=True):
        size = max(1, weight.parameter.numel())
        weight.density = (count / size).to(weight.device, weight.dtype)
