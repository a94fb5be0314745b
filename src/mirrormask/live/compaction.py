"""A weight's tensors, those of the optimizer included, cut down to what lives, and back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from mirrormask.live.pattern import Pattern
from mirrormask.optimizer.latent_weight import LatentWeight


def can_compact(weight: LatentWeight) -> bool:
    """Tell whether every latent belongs to one coordinate, or to all of them."""
    shape = weight.parameter.shape
    return all(latent.shape == shape or latent.ndim == 0 for latent in weight.latents.values())


@torch.no_grad()
def compact(weight: LatentWeight, base: Optimizer, pattern: Pattern) -> None:
    """Keep of a weight, its latents and the base optimizer's buffers what lives."""
    _reshape(weight, base, weight.parameter.shape, pattern.gather)
    weight.take_shape(None)


@torch.no_grad()
def expand(weight: LatentWeight, base: Optimizer, pattern: Pattern) -> None:
    """Undo :func:`compact`: zeros where nothing lives, and the mask in force again."""
    _reshape(weight, base, weight.parameter.shape, pattern.spread)
    weight.take_shape(~pattern.kept)


def bytes_of(weight: LatentWeight, base: Optimizer) -> int:
    """Return the bytes of a weight, its latents, mask and buffers; shared memory counts once."""
    buffers = [
        value
        for slot in weight.slots.values()
        for value in base.state.get(slot, {}).values()
        if isinstance(value, Tensor)
    ]
    tensors = [weight.parameter, *weight.latents.values(), *weight.slots.values(), *buffers]
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(held.values()) + (0 if weight.cut is None else weight.parameter.numel())


def _reshape(
    weight: LatentWeight,
    base: Optimizer,
    shape: torch.Size,
    change: Callable[[Tensor], Tensor],
) -> None:
    parameter = weight.parameter
    parameter.grad = None
    # Objects stay and get other data: they are keys of the base optimizer's state.
    seen: set[int] = set()
    for tensor in (parameter, *weight.latents.values(), *weight.slots.values()):
        if id(tensor) not in seen and tensor.shape == shape and tensor is not parameter:
            tensor.data = change(tensor.data)
        seen.add(id(tensor))
    changed = change(parameter.data)
    # A graph that the user still holds keeps a node that expects gradients in the old shape; torch
    # forgets it only where the type changes.
    parameter.data = torch.empty(0, dtype=torch.float64)
    parameter.data = changed
    for slot in weight.slots.values():
        state = base.state.get(slot, {})
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == shape:
                state[name] = change(value)
