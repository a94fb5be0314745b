"""pWD against its update written plainly, its limits, and LASSO by scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Lasso
from torch import nn

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.geometry import Landing, PowerDecay
from mirrormask.pressure import Constant


@given(
    x=st.floats(1e-6, 1e3),
    sign=st.sampled_from([-1.0, 1.0]),
    p=st.floats(0.1, 2.0),
    budget=st.floats(1e-9, 1.0),
)
def test_decay_is_the_paper_s_formula(x: float, sign: float, p: float, budget: float) -> None:
    latents = PowerDecay(p=p).split(torch.tensor([sign * x, 0.0], dtype=torch.float64))
    PowerDecay(p=p).decay(latents, budget)
    got = latents["x"]
    assert got[0].item() == pytest.approx(sign * x / (1 + 2 * budget * x ** (p - 2)), rel=1e-12)
    assert got[1] == 0


@pytest.mark.parametrize("p", [0.3, 1.0, 1.5, 2.0])
def test_it_stays_finite_at_any_size_and_never_turns_a_sign(p: float) -> None:
    x = torch.tensor([0.0, 1e-45, -1e-30, 1e-8, -1.0, 1e30])
    for budget in (0.0, 1e-12, 1.0, 1e6):
        latents = PowerDecay(p=p).split(x)
        PowerDecay(p=p).decay(latents, budget)
        assert torch.isfinite(latents["x"]).all()
        assert (latents["x"] * x.sign() >= 0).all()
        assert (latents["x"].abs() <= x.abs()).all()
        if budget == 0:
            assert torch.equal(latents["x"], x)


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0])
def test_to_first_order_it_is_a_step_on_the_penalty(p: float) -> None:
    x = torch.tensor([0.4, -1.7], dtype=torch.float64, requires_grad=True)
    alpha, lr = 0.3, 1e-7
    (2 * alpha / p * x.abs() ** p).sum().backward()
    latents = PowerDecay(p=p).split(x)
    PowerDecay(p=p).absorb(latents, latents, Landing(rate=lr, alpha=alpha, budget=lr * alpha))
    moved = (latents["x"] - x.detach()) / lr
    torch.testing.assert_close(moved, -x.grad, rtol=1e-5, atol=0)


@pytest.mark.parametrize("p", [0.5, 0.8, 1.4])
@pytest.mark.parametrize("base", ["sgd", "adamw"])
def test_trains_by_the_paper_s_update_after_the_step(p: float, base: str) -> None:
    def made(net: nn.Module) -> torch.optim.Optimizer:
        if base == "sgd":
            return torch.optim.SGD(net.parameters(), lr=0.05)
        return torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.0)

    torch.manual_seed(0)
    ours, theirs = nn.Linear(6, 4), nn.Linear(6, 4)
    theirs.load_state_dict(ours.state_dict())
    lambda_ = 0.03
    recipe = mm.Recipe(geometry=PowerDecay(p=p), pressure=Constant(strength=lambda_ / 2))
    optimizer = mm.sparsify(made(ours), ours, sparsity=0.5, steps=60, method=recipe)
    plain = made(theirs)
    for step in range(60):
        inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        for net, by in ((ours, optimizer), (theirs, plain)):
            by.zero_grad()
            (net(inputs) - inputs[:, :4]).square().mean().backward()
            by.step()
        with torch.no_grad():
            w, lr = theirs.weight, plain.param_groups[0]["lr"]
            w.div_(1 + lr * lambda_ * w.abs() ** (p - 2))
        torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-4, atol=1e-6)
    assert optimizer.finalize().zeros == 12


def test_momentum_counts_as_in_any_other_decay() -> None:
    layer = nn.Linear(3, 2, bias=False)
    recipe = mm.Recipe(geometry=PowerDecay(p=2.0), pressure=Constant(strength=0.01))
    base = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    optimizer = mm.sparsify(base, layer, sparsity=0.5, steps=5, method=recipe)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.zeros_like(before)
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), before / (1 + 0.1 * 0.02 / (1 - 0.9)))


def test_at_one_it_arrives_at_the_lasso(rng: torch.Generator) -> None:
    features = torch.randn(40, 12, dtype=torch.float64, generator=rng)
    truth = torch.zeros(12, dtype=torch.float64)
    truth[:3] = torch.tensor([1.5, -2.0, 0.7])
    labels = features @ truth + 0.1 * torch.randn(40, dtype=torch.float64, generator=rng)
    alpha = 0.05
    lasso = Lasso(alpha=2 * alpha, fit_intercept=False, tol=1e-12, max_iter=100_000)
    want = lasso.fit(features.numpy(), labels.numpy()).coef_
    geometry = PowerDecay(p=1.0)
    latents = geometry.split(torch.ones(12, dtype=torch.float64))
    errors = []
    for lr in (0.02, 0.002):  # decay and step in turn settle O(lr) beside the solution
        for _ in range(15_000):
            x = latents["x"]
            x.sub_(lr * (features.T @ (features @ x - labels) / 40))
            geometry.absorb(latents, latents, Landing(budget=lr * alpha))
        errors.append(np.abs(latents["x"].numpy() - want).max())
    assert errors[1] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.3)
    assert (want == 0).sum() >= 3


def test_idle_weights_end_as_exact_zeros_and_the_count_stays_that_asked_for() -> None:
    layer = nn.Linear(10, 4, bias=False)
    recipe = mm.Recipe(geometry=PowerDecay(p=0.5), pressure=Constant(strength=1.0))
    base = torch.optim.SGD(layer.parameters(), lr=0.1)
    optimizer = mm.sparsify(base, layer, sparsity=0.5, steps=30, method=recipe)
    for _ in range(30):
        layer.weight.grad = torch.zeros_like(layer.weight)
        layer.weight.grad[0] = -1.0
        optimizer.step()
    assert int((layer.weight == 0).sum()) == 30
    report = optimizer.finalize()
    assert report.zeros == 20
    assert (layer.weight[0] != 0).all()


@pytest.mark.parametrize("p", [0.0, -1.0, 2.1, math.nan])
def test_a_power_that_does_not_decay_is_refused(p: float) -> None:
    with pytest.raises(ArgumentError, match=f"p={p} is no power that decays"):
        PowerDecay(p=p)
