"""HAM and decay of any power as methods: knobs, and what decay of a low power promises."""

from __future__ import annotations

import torch
from torch import nn

import mirrormask as mm

STEPS = 600


def weights_under(p: float, strength: float) -> torch.Tensor:
    """Train a regression whose last half of the weights does nothing; return the sizes."""
    torch.manual_seed(0)
    layer = nn.Linear(20, 3, bias=False)
    base = torch.optim.SGD(layer.parameters(), lr=0.02, momentum=0.9)
    recipe = mm.METHODS["pwd"].with_knobs({"p": p, "strength": strength})
    optimizer = mm.sparsify(base, layer, sparsity=0.5, steps=STEPS, method=recipe)
    inputs = torch.randn(60, 20, generator=torch.Generator().manual_seed(1))
    for _ in range(STEPS):
        optimizer.zero_grad()
        (layer(inputs) - inputs[:, :10].sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()
    return layer.weight.detach().abs()


def test_a_lower_power_leaves_idle_weights_smaller_and_working_ones_larger() -> None:
    low, high = weights_under(0.8, 0.02), weights_under(2.0, 0.02)
    assert low[:, 10:].max() < 0.2 * high[:, 10:].max()
    assert low[:, :10].min() > 0.9
    assert high[:, :10].mean() < low[:, :10].mean()


def test_knobs_reach_their_parts() -> None:
    assert mm.METHODS["ham"].with_knobs({"strength": 7.0}).geometry.A == 7.0
    recipe = mm.METHODS["pwd"].with_knobs({"p": 1.5, "strength": 0.2})
    assert (recipe.geometry.p, recipe.pressure.strength) == (1.5, 0.2)
