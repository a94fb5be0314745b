"""Claim 19 and the discrete noise law: two ways to run one dynamics."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from mirrormask.geometry import Factors, Geometry, Landing, Mirror

Tensor = torch.Tensor


def descend(geometry: Geometry, x0: Tensor, lr: float, steps: int, grads: Tensor) -> Tensor:
    """Plain descent on a quadratic, with the decay of alpha = 0.2, plus given gradients."""
    target = torch.linspace(-1.5, 1.5, len(x0), dtype=x0.dtype)
    latents = geometry.split(x0)
    for k in range(steps):
        x = geometry.compose(latents)
        pulled = geometry.pull_back(latents, (x - target) + grads[k])
        moved = geometry.moving(latents)
        if geometry.decays_through_base:
            geometry.decay(latents, lr * 0.2)
            geometry.absorb(latents, moved, Landing())
        for name in moved:
            moved[name].sub_(lr * pulled[name])
        if not geometry.decays_through_base:
            geometry.absorb(latents, moved, Landing(budget=lr * 0.2))
    return geometry.compose(latents)


def test_difference_halves_with_the_learning_rate() -> None:
    x0 = torch.linspace(1.0, -1.0, 9, dtype=torch.float64)
    errors = []
    for steps in (200, 400, 800, 1600):
        lr = 2.0 / steps
        none = torch.zeros(steps, 9, dtype=torch.float64)
        factors = descend(Factors(beta=1.0), x0, lr, steps, none)
        mirror = descend(Mirror(a=0.5), x0, lr, steps, none)
        errors.append((factors - mirror).abs().max().item())
    ratios = [big / small for big, small in itertools.pairwise(errors)]
    assert ratios == pytest.approx([2.0] * 3, abs=0.1)


def test_second_moment_tracks_the_balance_of_noisy_factors() -> None:
    rng = torch.Generator().manual_seed(5)
    n, steps, lr, sigma = 400, 1000, 0.05, 0.8
    noise = sigma * torch.randn(steps, n, dtype=torch.float64, generator=rng)
    x0 = 0.3 * torch.randn(n, dtype=torch.float64, generator=rng)

    def run(geometry: Geometry) -> dict[str, Tensor]:
        latents = geometry.split(x0)
        for k in range(steps):
            pulled = geometry.pull_back(latents, noise[k])
            moved = geometry.moving(latents)
            for name in moved:
                moved[name].sub_(lr * pulled[name])
            geometry.absorb(latents, moved, Landing())
        return latents

    factors = run(Factors(beta=1.0))
    balance = ((factors["m"] - factors["w"]) * (factors["m"] + factors["w"])).mean().item()
    tracked = 2 * run(Mirror(a=0.5, noise="second-moment"))["a"].item()
    ignored = 2 * run(Mirror(a=0.5, noise="ignore"))["a"].item()
    assert ignored == 1.0
    assert abs(tracked / balance - 1) < 0.02
    assert balance < 0.3
    # And the law itself predicts how far: prod (1 - (lr g)²) = exp(-steps (lr sigma)²).
    assert balance == pytest.approx(math.exp(-steps * (lr * sigma) ** 2), rel=0.02)
