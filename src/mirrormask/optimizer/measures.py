"""Sums and scales of all targeted weights, whole or sharded over ranks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mirrormask.optimizer.feedback import SAMPLE, sampling_stride
from mirrormask.pressure import Pressure
from mirrormask.ranks import count_true, is_sharded, local_part, sum_in_shards

if TYPE_CHECKING:
    from mirrormask.optimizer.core import SparseOptimizer
    from mirrormask.optimizer.latent_weight import LatentWeight


@torch.no_grad()
def total_size(tensors: Sequence[Tensor]) -> Tensor:
    """Return the sum of ``|x|`` over tensors, 0-d, on the device.

    Args:
        tensors: Plain, or sharded over ranks that all ask at once.
    """

    def size(tensor: Tensor) -> Tensor:
        # Metal has no float64.
        exact = torch.float32 if tensor.device.type == "mps" else torch.float64
        return local_part(tensor).abs().sum(dtype=exact)

    return sum_in_shards(tensors, size).sum()


@torch.no_grad()
def typical_pull(rates: Iterable[tuple[LatentWeight, float]]) -> Tensor:
    """Return the root mean square step of live weights for a unit of rate, 0-d, on the device.

    It is asked for between the base optimizer's step and its landing, of geometries that move
    increments. As momentum multiplies the rate, it is as large as a constant gradient that would
    move weights so. Weights without a gradient, or of groups whose rate is 0, do not count.

    Args:
        rates: Each weight and the budget that a unit of ``alpha`` spends on it in this step.
    """
    moved, live = [], []
    for weight, rate in rates:
        if _moves(weight, rate):
            alive = weight.latents["x"] != 0
            (step,) = weight.slots.values()
            moved.append(weight.wrap(torch.where(alive, step, 0.0) / rate))
            live.append(weight.wrap(alive))
    if not moved:
        return torch.zeros(())
    return (_squares(moved) / count_true(live).sum().clamp(min=1)).sqrt()


@torch.no_grad()
def relative_step(rates: Iterable[tuple[LatentWeight, float]]) -> Tensor:
    """Return the step of live weights for a unit of rate, in parts of their size, 0-d.

    Both are root mean squares over all weights; as for :func:`typical_pull` it is asked for between
    the base optimizer's step and its landing, and only what moves counts.

    Args:
        rates: Each weight and the budget that a unit of ``alpha`` spends on it in this step.
    """
    moved, sizes = [], []
    for weight, rate in rates:
        if _moves(weight, rate):
            x = weight.latents["x"]
            step = weight.geometry.increment(weight.latents, weight.slots)
            moved.append(weight.wrap(torch.where(x != 0, step, 0.0) / rate))
            sizes.append(weight.wrap(x))
    if not moved:
        return torch.zeros(())
    return (_squares(moved) / _squares(sizes)).sqrt()


def _moves(weight: LatentWeight, rate: float) -> bool:
    return weight.parameter.grad is not None and rate > 0


def _squares(tensors: Sequence[Tensor]) -> Tensor:
    return sum_in_shards(tensors, lambda tensor: local_part(tensor).square().sum()).sum()


def with_pull(
    measured: Tensor, pressure: Pressure, rates: Iterable[tuple[LatentWeight, float]]
) -> Tensor:
    """Return a measurement, with the typical pull behind it where a pressure asks for that."""
    if not pressure.asks_for_pull:
        return measured
    return torch.cat([measured, typical_pull(rates).to(measured).unsqueeze(0)])


@torch.no_grad()
def measure_scales(optimizer: SparseOptimizer) -> dict[str, float]:
    """Return the scale of each targeted tensor, from a sample where it is sharded."""
    geometry, weights = optimizer.recipe.geometry, list(optimizer.weights.values())
    stride = sampling_stride(weights, SAMPLE)
    sharded = [weight for weight in weights if is_sharded(weight.parameter)]
    here = {
        weight.name: {name: part.cpu() for name, part in weight.sample(stride).items()}
        for weight in sharded
    }
    everywhere = optimizer.ranks.gather(here) if sharded else []
    scales = {}
    for weight in weights:
        latents = weight.latents
        if everywhere and weight.name in here:
            latents = {
                name: latent
                if latent.ndim == 0
                else torch.cat([r[weight.name][name] for r in everywhere])
                for name, latent in here[weight.name].items()
            }
        scales[weight.name] = float(geometry.scale(latents))
    return scales
