"""Plain descent on the factors under given gradients, as the base optimizer would run it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mirrormask.geometry import Factors, Geometry, Landing, Latents


def take_step(geometry: Geometry, latents: Latents, grad: Tensor, lr: float, alpha: float) -> None:
    """Move the latents in place by one step of plain descent with decay ``alpha``.

    Args:
        geometry: Whose latents these are.
        latents: The latents.
        grad: Gradient on the weight.
        lr: Step size.
        alpha: Strength; a geometry that decays through the base optimizer gets its weight decay.

    Example:
        >>> latents = Factors().split(torch.tensor([0.3]))
        >>> take_step(Factors(), latents, torch.tensor([1.0]), 0.1, 0.0)
        >>> Factors().compose(latents)
        tensor([0.1864])
    """
    pulled = geometry.pull_back(latents, grad)
    moved = geometry.moving(latents)
    if geometry.decays_through_base:
        geometry.decay(latents, lr * alpha)
    for name, tensor in moved.items():
        tensor.sub_(pulled[name], alpha=lr)
    own = 0.0 if geometry.decays_through_base else lr * alpha
    geometry.absorb(latents, moved, Landing(rate=lr, alpha=alpha, budget=own, grad=grad))


def balance_of(latents: Latents) -> Tensor:
    """Return ``m² - w²``, formed without squaring.

    Example:
        >>> balance_of(Factors(beta=1.0).split(torch.tensor([0.0])))
        tensor([1.])
    """
    m, w = latents["m"], latents["w"]
    return (m - w) * (m + w)


def flip_pulls(x0: Tensor, *, beta: float, lr: float, steps: int) -> Tensor:
    """Return the total pull at which each weight changes sign under unit gradients.

    Args:
        x0: Weights at the start, positive, shape (n,).
        beta: Balance at the start; 0 for spred's start.
        lr: Step size.
        steps: Most steps taken.

    Returns:
        ``lr`` times the step of the flip, shape (n,); NaN where the sign never changed.

    Example:
        >>> flip_pulls(torch.tensor([0.5]), beta=1.0, lr=1e-3, steps=1000)  # arcsinh(1) / 2
        tensor([0.4410])
    """
    geometry = Factors(beta=beta)
    latents = geometry.split(x0)
    flipped = torch.full_like(x0, torch.nan)
    ones = torch.ones_like(x0)
    for step in range(1, steps + 1):
        take_step(geometry, latents, ones, lr, 0.0)
        crossed = (geometry.compose(latents) <= 0) & flipped.isnan()
        flipped[crossed] = step * lr
    return flipped


def run_steps(
    geometry: Geometry, x0: Tensor, grads: Iterable[Tensor], lr: float, alpha: float
) -> Latents:
    """Return the latents after a step for each gradient given.

    Example:
        >>> latents = run_steps(Factors(), torch.zeros(1), [torch.ones(1)] * 2, 0.1, 0.0)
        >>> Factors().compose(latents)
        tensor([-0.2020])
    """
    latents = geometry.split(x0)
    for grad in grads:
        take_step(geometry, latents, grad, lr, alpha)
    return latents
