"""STR against its formula, the chain rule, a parametrised module, and what its paper shows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.geometry import SoftThreshold
from mirrormask.pressure import Constant


def formula(v: Tensor, s: Tensor) -> Tensor:
    return v.sign() * F.relu(v.abs() - torch.sigmoid(s))


@settings(max_examples=40)
@given(
    size=st.floats(1e-38, 1e3),
    s=st.floats(-150, 10),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_new_latents_compose_to_the_weight_and_never_to_a_zero_that_it_is_not(
    size: float, s: float, dtype: torch.dtype
) -> None:
    x = torch.tensor([size, -size, 0.0, torch.finfo(dtype).tiny], dtype=dtype)
    geometry = SoftThreshold(initial=-3.0)
    there = {"v": torch.ones(4, dtype=dtype), "s": torch.tensor(s, dtype=dtype)}
    for latents in (geometry.split(x), geometry.resplit(there, x)):
        got = geometry.compose(latents)
        torch.testing.assert_close(got, x, rtol=1e-6, atol=2 * torch.finfo(dtype).eps)
        assert torch.equal(got.sign(), x.sign())
        assert not torch.signbit(got[2])
        assert latents["s"].ndim == 0
    assert geometry.split(x)["s"] == -3.0
    assert geometry.resplit(there, x)["s"] == there["s"]
    assert geometry.resplit(there, x)["s"] is not there["s"]


def test_it_is_the_formula_of_the_paper_and_its_chain_rule(rng: torch.Generator) -> None:
    v = torch.randn(6, 5, dtype=torch.float64, generator=rng).requires_grad_()
    s = torch.tensor(-0.4, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(6, 5, dtype=torch.float64, generator=rng)
    want = formula(v, s)
    want.backward(grad)
    latents = {"v": v.detach().clone(), "s": s.detach().clone()}
    geometry = SoftThreshold()
    got = geometry.compose(latents)
    torch.testing.assert_close(got, want.detach(), rtol=1e-14, atol=0)
    assert 5 < (got == 0).sum() < 25
    assert not torch.signbit(got[got == 0]).any()
    pulled = geometry.pull_back(latents, grad)
    torch.testing.assert_close(pulled["v"], v.grad, rtol=1e-14, atol=0)
    torch.testing.assert_close(pulled["s"], s.grad, rtol=1e-12, atol=0)
    zeros = {"v": torch.zeros(2), "s": torch.tensor(-200.0)}
    assert not geometry.pull_back(zeros, torch.ones(2))["v"].any()  # zero is fixed


def test_the_start_is_the_weight_less_the_threshold(rng: torch.Generator) -> None:
    x = torch.randn(8, 3, generator=rng)
    kept = x.clone()
    latents = SoftThreshold(initial=-1.0).start(x, rng)
    assert torch.equal(latents["v"], x)
    latents["v"].zero_()
    assert torch.equal(x, kept)


class Thresholded(nn.Module):
    """An independent linear layer with a learned threshold."""

    def __init__(self, layer: nn.Linear, initial: float) -> None:
        super().__init__()
        self.v = nn.Parameter(layer.weight.detach().clone())
        self.s = nn.Parameter(torch.tensor(initial))
        self.bias = nn.Parameter(layer.bias.detach().clone())

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, formula(self.v, self.s), self.bias)


def test_trains_as_a_parametrised_module_with_weight_decay() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    oracle = Thresholded(layer, -2.0)
    recipe = mm.Recipe(geometry=SoftThreshold(initial=-2.0), pressure=Constant(strength=0.02))
    base = torch.optim.SGD(layer.parameters(), lr=0.05, momentum=0.9)
    optimizer = mm.sparsify(base, layer, sparsity=0.5, steps=60, method=recipe)
    groups = [{"params": [oracle.v, oracle.s], "weight_decay": 0.04}, {"params": [oracle.bias]}]
    theirs = torch.optim.SGD(groups, lr=0.05, momentum=0.9)
    for step in range(60):
        inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        for net, by in ((layer, optimizer), (oracle, theirs)):
            by.zero_grad()
            (net(inputs) - inputs[:, :4]).square().mean().backward()
            by.step()
    latents = optimizer.weights[layer.weight].latents
    torch.testing.assert_close(latents["s"], oracle.s.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(latents["v"], oracle.v.detach(), rtol=1e-4, atol=1e-6)
    assert abs(latents["s"].item() + 2.0) > 0.1
    assert optimizer.finalize().zeros == 12


@pytest.mark.parametrize("initial", [0.0, 1.0, -math.inf, math.nan])
def test_a_start_that_cannot_rise_is_refused(initial: float) -> None:
    with pytest.raises(ArgumentError, match=f"initial={initial} would not rise"):
        SoftThreshold(initial=initial)
