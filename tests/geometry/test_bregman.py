"""LinBreg and AdaBreg against the paper's iterations, their sparse start, and their limit."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.geometry import Bregman, Landing
from mirrormask.pressure import Constant


def formula(v: Tensor, level: float, delta: float) -> Tensor:
    return delta * v.sign() * torch.relu(v.abs() - level)


@settings(max_examples=40)
@given(
    size=st.floats(1e-30, 1e3),
    level=st.floats(0, 10),
    there=st.floats(1e-6, 10),
    delta=st.floats(0.1, 10),
)
def test_new_latents_compose_to_the_weight_and_never_to_a_zero_that_it_is_not(
    size: float, level: float, there: float, delta: float
) -> None:
    x = torch.tensor([size, -size, 0.0])
    geometry = Bregman(level=level, delta=delta)
    now = {"v": torch.ones(3), "level": torch.tensor(there)}
    for latents in (geometry.split(x), geometry.resplit(now, x)):
        got = geometry.compose(latents)
        torch.testing.assert_close(got, x, rtol=1e-6, atol=2e-5)
        assert torch.equal(got.sign(), x.sign())
        assert not torch.signbit(got[2])
    assert geometry.resplit(now, x)["level"] == now["level"]
    assert geometry.resplit(now, x)["level"] is not now["level"]


def test_the_weight_is_the_mirror_image_of_v_and_the_gradient_goes_straight_to_v(
    rng: torch.Generator,
) -> None:
    """x solves ``min_x level |x| + x² / (2 delta) - v x``, here found on a grid."""
    geometry = Bregman(level=0.5, delta=2.0)
    v = 2 * torch.randn(20, dtype=torch.float64, generator=rng)
    grid = torch.linspace(-12, 12, 24_001, dtype=torch.float64).view(-1, 1)
    best = (0.5 * grid.abs() + grid**2 / 4.0 - v * grid).argmin(0)
    latents = {"v": v, "level": torch.tensor(0.5, dtype=torch.float64)}
    torch.testing.assert_close(geometry.compose(latents), grid[best, 0], rtol=0, atol=6e-4)
    grad = torch.randn(20, generator=rng)
    assert torch.equal(geometry.pull_back(latents, grad)["v"], grad)
    assert list(geometry.moving(latents)) == ["v"]
    geometry.absorb(latents, {}, Landing(alpha=0.4))
    torch.testing.assert_close(geometry.compose(latents), formula(v, 0.8, 2.0))


def test_the_start_is_sparse_and_keeps_the_variance(rng: torch.Generator) -> None:
    x = torch.randn(300, 200, generator=rng)
    kept = x.clone()
    geometry = Bregman(level=0.3, delta=0.5, density=0.2)
    latents = geometry.start(x, torch.Generator().manual_seed(3))
    start = geometry.compose(latents)
    alive = start != 0
    assert alive.float().mean().item() == pytest.approx(0.2, abs=0.01)
    torch.testing.assert_close(start[alive], x[alive] / math.sqrt(0.2), rtol=1e-5, atol=1e-6)
    assert start.var().item() == pytest.approx(x.var().item(), rel=0.03)
    assert not latents["v"][~alive].any()
    again = geometry.start(x, torch.Generator().manual_seed(3))
    other = geometry.start(x, torch.Generator().manual_seed(4))
    assert torch.equal(again["v"], latents["v"])
    assert not torch.equal(other["v"], latents["v"])
    assert torch.equal(x, kept)


BASES = {
    "linbreg": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adabreg": lambda p: torch.optim.Adam(p, lr=0.02),
}


@pytest.mark.parametrize("base", BASES)
def test_trains_by_the_iterations_of_the_paper(base: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    geometry = Bregman(level=0.1, delta=0.8, density=0.3)
    recipe = mm.Recipe(geometry=geometry, pressure=Constant(strength=0.05))
    optimizer = mm.sparsify(
        BASES[base](layer.parameters()), layer, sparsity=0.5, steps=60, method=recipe
    )
    oracle = copy.deepcopy(layer)
    x = oracle.weight.detach().clone()
    v = nn.Parameter(x / 0.8 + 0.1 * x.sign())
    theirs = BASES[base]([v, oracle.bias])
    zeros = []
    for step in range(60):
        inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        for net in (layer, oracle):
            net.zero_grad()
            (net(inputs) - inputs[:, :4]).square().mean().backward()
        optimizer.step()
        v.grad = oracle.weight.grad
        theirs.step()
        with torch.no_grad():
            oracle.weight.copy_(formula(v, 0.1, 0.8))
        zeros.append(int((layer.weight == 0).sum()))
        torch.testing.assert_close(layer.weight, oracle.weight, rtol=1e-4, atol=1e-5)
    assert max(zeros) > min(zeros)
    assert optimizer.finalize().zeros == 12


def test_the_iterations_arrive_at_the_sparsest_exact_solution(rng: torch.Generator) -> None:
    """Underdetermined: they minimise ``level |x|_1 + |x|² / (2 delta)`` among the solutions."""
    features = torch.randn(20, 40, dtype=torch.float64, generator=rng)
    truth = torch.zeros(40, dtype=torch.float64)
    truth[:3] = torch.tensor([2.0, -1.5, 1.0])
    geometry = Bregman(level=20.0)
    latents = geometry.split(torch.zeros(40, dtype=torch.float64))
    lr = 1 / torch.linalg.matrix_norm(features, 2).item() ** 2
    for _ in range(6000):
        residual = features @ (geometry.compose(latents) - truth)
        latents["v"].sub_(lr * (features.T @ residual))
    x = geometry.compose(latents)
    torch.testing.assert_close(x, truth, rtol=0, atol=1e-4)
    assert (x[3:] == 0).sum() >= 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": -1.0}, r"level=-1\.0 is no threshold"),
        ({"level": 1.0, "delta": 0.0}, r"delta=0\.0 is no scale"),
        ({"level": 1.0, "density": 0.0}, r"density=0\.0 is no part of the weights"),
        ({"level": 1.0, "density": 1.1}, r"density=1\.1 is no part of the weights"),
    ],
)
def test_options_without_sense_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Bregman(**options)
