"""Continuous Sparsification against autograd, a parametrised module, and its limits."""

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
from mirrormask.geometry import Gate, Landing
from mirrormask.pressure import Constant


@settings(max_examples=40)
@given(
    size=st.floats(1e-38, 1e3),
    initial=st.floats(-3, 3),
    s=st.floats(-10, 10),
    t=st.floats(1, 500),
)
def test_new_latents_compose_to_the_weight_however_tight_the_gate(
    size: float, initial: float, s: float, t: float
) -> None:
    x = torch.tensor([size, -size, 0.0, torch.finfo(torch.float32).tiny])
    geometry = Gate(initial=initial)
    there = {"v": torch.ones(4), "s": torch.full((4,), s), "t": torch.tensor(t)}
    for latents in (geometry.split(x), geometry.resplit(there, x)):
        got = geometry.compose(latents)
        torch.testing.assert_close(got, x, rtol=1e-6, atol=1e-44)
        assert torch.equal(got.sign(), x.sign())
        assert (latents["v"].abs() <= 21.1 * x.abs()).all()  # 1 + e³
    fresh = geometry.resplit(there, x)
    assert torch.equal(fresh["s"], torch.full((4,), max(s, 0.0)))
    assert fresh["t"] == there["t"]
    assert fresh["t"] is not there["t"]
    assert geometry.split(x)["t"] == 1


@pytest.mark.parametrize("t", [1.0, 7.0])
def test_pull_back_is_the_chain_rule_and_the_temperature_stays(
    t: float, rng: torch.Generator
) -> None:
    v, s, grad = torch.randn(3, 5, 4, dtype=torch.float64, generator=rng)
    v.requires_grad_()
    s.requires_grad_()
    want = v * torch.sigmoid(t * s)
    want.backward(grad)
    latents = {"v": v.detach(), "s": s.detach(), "t": torch.tensor(t, dtype=torch.float64)}
    torch.testing.assert_close(Gate().compose(latents), want.detach())
    pulled = Gate().pull_back(latents, grad)
    torch.testing.assert_close(pulled["v"], v.grad)
    torch.testing.assert_close(pulled["s"], s.grad)
    moving = Gate().moving(latents)
    assert list(pulled) == list(moving) == ["v", "s"]
    assert moving["v"] is latents["v"]


def test_decay_is_a_step_on_the_sum_of_the_gates(rng: torch.Generator) -> None:
    s = torch.randn(6, dtype=torch.float64, generator=rng).requires_grad_()
    alpha, lr, t = 0.3, 0.01, 4.0
    (2 * alpha * torch.sigmoid(t * s).sum()).backward()
    latents = {"v": torch.ones(6), "s": s.detach().clone(), "t": torch.tensor(t)}
    Gate().absorb(latents, {}, Landing(rate=lr, alpha=alpha, budget=lr * alpha))
    torch.testing.assert_close(latents["s"], s.detach() - lr * s.grad)
    assert torch.equal(latents["v"], torch.ones(6))


def test_gates_end_open_or_shut_and_shut_ones_give_positive_zeros() -> None:
    geometry = Gate(final=300.0)
    latents = geometry.split(torch.tensor([-1.0, -1.0]))
    latents["s"].copy_(torch.tensor([-0.5, 0.5]))
    temperatures = []
    for done in (0.25, 0.5, 1.0):
        geometry.anneal(latents, done)
        temperatures.append(latents["t"].item())
    assert temperatures == pytest.approx([300**0.25, 300**0.5, 300.0], rel=1e-6)
    x = geometry.compose(latents)
    assert x.tolist() == [0.0, -2.0]
    assert not torch.signbit(x[0])


class Gated(nn.Module):
    """An independent linear layer whose weights have gates."""

    def __init__(self, layer: nn.Linear, initial: float) -> None:
        super().__init__()
        s = torch.full_like(layer.weight.detach(), initial)
        self.v = nn.Parameter(layer.weight.detach() / torch.sigmoid(s))
        self.s = nn.Parameter(s)
        self.bias = nn.Parameter(layer.bias.detach().clone())
        self.t = 1.0

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.v * torch.sigmoid(self.t * self.s), self.bias)


def test_trains_as_a_parametrised_module_with_the_penalty_in_its_loss() -> None:
    steps, strength = 40, 2e-3
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    oracle = Gated(layer, 0.1)
    recipe = mm.Recipe(geometry=Gate(initial=0.1, final=50.0), pressure=Constant(strength=strength))
    # Without momentum: the penalty's own step does not differ from one in the loss but by the
    # point where its gradient is taken.
    base = torch.optim.SGD(layer.parameters(), lr=0.02)
    optimizer = mm.sparsify(base, layer, sparsity=0.5, steps=steps, method=recipe)
    theirs = torch.optim.SGD(oracle.parameters(), lr=0.02)
    for step in range(steps):
        inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        for net, by in ((layer, optimizer), (oracle, theirs)):
            by.zero_grad()
            (net(inputs) - inputs[:, :4]).square().mean().backward()
            by.step()
        gates = torch.sigmoid(oracle.t * oracle.s.detach()).requires_grad_(False)
        with torch.no_grad():
            oracle.s.sub_(0.02 * 2 * strength * oracle.t * gates * (1 - gates))
        oracle.t = 50.0 ** ((step + 1) / steps)
    latents = optimizer.weights[layer.weight].latents
    torch.testing.assert_close(latents["s"], oracle.s.detach(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(layer(inputs), oracle(inputs), rtol=1e-3, atol=1e-4)
    assert latents["t"] == pytest.approx(50.0)
    assert optimizer.finalize().zeros == 12


def test_a_stronger_penalty_shuts_more_gates() -> None:
    shut = []
    for strength in (1e-4, 1e-1):
        torch.manual_seed(0)
        layer = nn.Linear(20, 10)
        recipe = mm.Recipe(geometry=Gate(initial=0.3), pressure=Constant(strength=strength))
        base = torch.optim.SGD(layer.parameters(), lr=0.05, momentum=0.9)
        optimizer = mm.sparsify(base, layer, sparsity=0.5, steps=100, method=recipe)
        for step in range(100):
            inputs = torch.randn(16, 20, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            (layer(inputs) - inputs[:, :10]).square().mean().backward()
            optimizer.step()
        shut.append(int((optimizer.weights[layer.weight].latents["s"] < 0).sum()))
    assert shut[0] + 20 < shut[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": math.nan}, "initial=nan is no state of a gate"),
        ({"final": 1.0}, r"final=1\.0 is no rising temperature"),
        ({"final": math.inf}, "final=inf is no rising temperature"),
    ],
)
def test_options_without_sense_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Gate(**options)
