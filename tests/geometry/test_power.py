"""Powerpropagation against its formula, the chain rule, and a parametrised module."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.geometry import Power
from mirrormask.masking import GradualCubic
from mirrormask.pressure import Constant


@given(
    x=st.floats(-1e3, 1e3, allow_subnormal=False),
    p=st.floats(1.01, 6),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_split_and_compose_undo_each_other(x: float, p: float, dtype: torch.dtype) -> None:
    weight = torch.tensor([x, -x, 0.0], dtype=dtype)
    geometry = Power(p=p)
    latents = geometry.split(weight)
    # Powers of numbers far from 1 lose as many units as their exponent has.
    tolerance = 100 * p * torch.finfo(dtype).eps
    torch.testing.assert_close(geometry.compose(latents), weight, rtol=tolerance, atol=1e-37)
    assert (latents["v"] * weight >= 0).all()


def test_it_is_the_formula_of_the_paper() -> None:
    v = torch.tensor([-1.5, -0.1, 0.0, 2.0], dtype=torch.float64)
    for p in (1.5, 2.0, 3.0):
        want = v * v.abs() ** (p - 1)
        torch.testing.assert_close(Power(p=p).compose({"v": v.clone()}), want)


@pytest.mark.parametrize("p", [1.2, 2.0, 3.5])
def test_pull_back_is_the_chain_rule(p: float) -> None:
    v = torch.tensor([-1.5, -0.1, 2.0], dtype=torch.float64, requires_grad=True)
    grad = torch.tensor([0.3, -2.0, 0.7], dtype=torch.float64)
    (v * v.abs().pow(p - 1)).backward(grad)
    latents = {"v": v.detach().clone()}
    pulled = Power(p=p).pull_back(latents, grad)
    torch.testing.assert_close(pulled["v"], v.grad)
    assert torch.equal(latents["v"], v.detach())
    assert Power(p=p).pull_back({"v": torch.zeros(1)}, torch.ones(1))["v"] == 0  # zero is fixed


def test_the_metric_is_p_squared_times_a_power_of_x() -> None:
    x, p, lr = torch.tensor([0.3, -2.0], dtype=torch.float64), 2.5, 1e-7
    geometry = Power(p=p)
    latents = geometry.split(x)
    latents["v"].sub_(lr * geometry.pull_back(latents, torch.ones_like(x))["v"])
    moved = (geometry.compose(latents) - x) / lr
    torch.testing.assert_close(moved, -(p**2) * x.abs() ** (2 - 2 / p), rtol=1e-5, atol=0)


class PowerLayer(nn.Module):
    """An independent linear layer with a powerpropagated weight."""

    def __init__(self, layer: nn.Linear, p: float) -> None:
        super().__init__()
        weight = layer.weight.detach()
        self.v = nn.Parameter(weight.sign() * weight.abs() ** (1 / p))
        self.bias = nn.Parameter(layer.bias.detach().clone())
        self.p = p

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.v * self.v.abs() ** (self.p - 1), self.bias)


@pytest.mark.parametrize("p", [1.5, 2.0, 3.0])
def test_trains_as_a_parametrised_module(p: float) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    oracle = PowerLayer(layer, p)
    recipe = mm.Recipe(
        geometry=Power(p=p),
        pressure=Constant(strength=0.01),
        masking=GradualCubic(begin=0.9, end=1.0),
    )
    base = torch.optim.SGD(layer.parameters(), lr=0.05, momentum=0.9)
    optimizer = mm.sparsify(base, layer, sparsity=0.5, steps=40, method=recipe)
    groups = [{"params": [oracle.v], "weight_decay": 0.02}, {"params": [oracle.bias]}]
    theirs = torch.optim.SGD(groups, lr=0.05, momentum=0.9)
    for step in range(40):
        inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        for net, by in ((layer, optimizer), (oracle, theirs)):
            by.zero_grad()
            (net(inputs) - inputs[:, :4]).square().mean().backward()
            by.step()
        if step < 36:
            torch.testing.assert_close(layer(inputs), oracle(inputs), rtol=1e-4, atol=1e-6)
    assert optimizer.finalize().zeros == 12


def test_sizes_spread_out_more_than_those_of_plain_weights() -> None:
    """The paper's point: under the same descent few weights do the work."""
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(30, 60, dtype=torch.float64, generator=generator)
    labels = features[:, :3].sum(1)
    start = 0.1 * torch.randn(60, dtype=torch.float64, generator=generator)
    shares = []
    for p in (1.0, 2.0, 3.0):
        v = start.sign() * start.abs() ** (1 / p)
        for _ in range(4000):
            x = v * v.abs() ** (p - 1)
            grad = features.T @ (features @ x - labels) / 30
            pulled = grad if p == 1 else Power(p=p).pull_back({"v": v}, grad)["v"]
            v = v - 0.02 * pulled
        x = (v * v.abs() ** (p - 1)).abs()
        shares.append((x.topk(6).values.sum() / x.sum()).item())
    assert shares == sorted(shares)
    assert shares[1] > shares[0] + 0.1


@pytest.mark.parametrize("p", [1.0, 0.5, -1.0, math.nan, math.inf])
def test_an_exponent_without_effect_is_refused(p: float) -> None:
    with pytest.raises(ArgumentError, match=f"p={p} is no exponent"):
        Power(p=p)
