"""What cycles go back to: the model as it was at an early step."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from mirrormask.optimizer.latent_weight import LatentWeight

Stored = dict[str, Tensor]
"""Copies of all parameters and buffers of a model by name, and of latents as ``name:latent``."""


def store(model: nn.Module, weights: Collection[LatentWeight]) -> Stored:
    """Return copies of all that training changes in the model."""
    latents = {
        f"{weight.name}:{name}": weight.wrap(latent)
        for weight in weights
        for name, latent in weight.latents.items()
    }
    everything = model.state_dict(keep_vars=True) | latents
    return {name: tensor.detach().clone() for name, tensor in everything.items()}


@torch.no_grad()
def go_back(
    model: nn.Module, weights: Collection[LatentWeight], stored: Mapping[str, Tensor]
) -> None:
    """Put back in place what :func:`store` returned, with the masks in force applied."""
    for name, tensor in model.state_dict(keep_vars=True).items():
        tensor.detach().copy_(stored[name])
    for weight in weights:
        latents = {name: stored[f"{weight.name}:{name}"] for name in weight.latents}
        weight.go_back(latents)
