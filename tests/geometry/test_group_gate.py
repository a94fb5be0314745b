"""D-Gating: exact composition, the chain rule over rows, and the group lasso it is equal to."""

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
from mirrormask.geometry import GroupGate, Landing
from mirrormask.pressure import Constant

DEPTHS = (2, 3, 4)
SHAPES = ((4, 6), (3, 2, 3, 3), (5, 1), (6,))


@pytest.mark.parametrize("shape", SHAPES)
@given(log_size=st.floats(-12, 4), depth=st.sampled_from(DEPTHS), seed=st.integers(0, 99))
def test_a_split_is_balanced_and_composes_to_the_weight(
    shape: tuple[int, ...], log_size: float, depth: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, dtype=torch.float64, generator=generator) * 10**log_size
    x[0] = 0.0
    geometry = GroupGate(depth=depth)
    latents = geometry.split(x)
    torch.testing.assert_close(geometry.compose(latents), x, rtol=1e-14, atol=0)
    assert list(latents) == ["v", *(f"g{i}" for i in range(1, depth))]
    norm = latents["v"].reshape(len(x), -1).norm(dim=1)
    for name in list(latents)[1:]:
        gate = latents[name]
        assert gate.shape == (len(x), *[1] * (x.ndim - 1))
        torch.testing.assert_close(gate.flatten()[1:], norm[1:], rtol=1e-12, atol=0)
        assert gate.flatten()[0] == 1  # a row of zeros can be left
    assert geometry.pull_back(latents, torch.ones_like(x))["v"][0].all()


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", SHAPES)
def test_pull_back_is_the_chain_rule(
    depth: int, shape: tuple[int, ...], rng: torch.Generator
) -> None:
    geometry = GroupGate(depth=depth)
    latents = geometry.split(torch.randn(shape, dtype=torch.float64, generator=rng))
    for latent in latents.values():
        latent.mul_(torch.randn(latent.shape, dtype=torch.float64, generator=rng))
    grad = torch.randn(shape, dtype=torch.float64, generator=rng)
    leaves = {name: latent.clone().requires_grad_() for name, latent in latents.items()}
    product = leaves["v"]
    for name in list(leaves)[1:]:
        product = product * leaves[name]
    product.backward(grad)
    for name, pulled in geometry.pull_back(latents, grad).items():
        torch.testing.assert_close(pulled, leaves[name].grad, rtol=1e-13, atol=1e-15)


def group_lasso(features: Tensor, labels: Tensor, weight: float) -> Tensor:
    """Solve |features x' - labels|² / (2 n) + weight * sum |row of x| by proximal gradient."""
    n = len(features)
    x = torch.zeros(labels.shape[1], features.shape[1], dtype=torch.float64)
    lr = n / torch.linalg.matrix_norm(features, 2) ** 2
    for _ in range(20_000):
        x = x - lr * (features @ x.T - labels).T @ features / n
        norm = x.norm(dim=1, keepdim=True)
        x = x * (1 - lr * weight / norm.clamp(min=1e-300)).clamp(min=0)
    return x


def regression(rng: torch.Generator) -> tuple[Tensor, Tensor]:
    features = torch.randn(30, 5, dtype=torch.float64, generator=rng)
    truth = torch.randn(6, 5, dtype=torch.float64, generator=rng)
    truth[2:] *= 0.02  # these rows are not worth their penalty
    return features, features @ truth.T


def test_constant_decay_arrives_at_the_group_lasso(rng: torch.Generator) -> None:
    features, labels = regression(rng)
    alpha, lr = 0.1, 0.02
    want = group_lasso(features, labels, 2 * alpha)
    assert (want.norm(dim=1) == 0).tolist() == [False] * 2 + [True] * 4
    geometry = GroupGate(depth=2)
    start = torch.randn(6, 5, dtype=torch.float64, generator=rng)
    leaves = geometry.split(start)
    base = torch.optim.SGD(leaves.values(), lr=lr, weight_decay=2 * alpha)
    for _ in range(20_000):
        grad = (features @ geometry.compose(leaves).T - labels).T @ features / 30
        for name, pulled in geometry.pull_back(leaves, grad).items():
            leaves[name].grad = pulled
        base.step()
    got = geometry.compose(leaves)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-8)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_penalty_of_a_split_is_the_least_one(depth: int, rng: torch.Generator) -> None:
    """|v|² + sum g² at the balanced split is D * |row|^(2/D), and any other split costs more."""
    geometry = GroupGate(depth=depth)
    x = torch.randn(1, 7, dtype=torch.float64, generator=rng)

    def cost(latents: dict[str, Tensor]) -> float:
        return sum(latent.square().sum().item() for latent in latents.values())

    best = geometry.split(x)
    assert cost(best) == pytest.approx(depth * x.norm().item() ** (2 / depth), rel=1e-12)
    for factor in (0.7, 1.2):
        other = {name: latent.clone() for name, latent in best.items()}
        other["g1"] *= factor
        other["v"] /= factor
        torch.testing.assert_close(geometry.compose(other), x)
        assert cost(other) > cost(best) * (1 + 1e-3)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_imbalance_decays_by_four_lambda_t_over_depth(depth: int) -> None:
    """Claim 23 for gates, by small Euler steps; lambda = depth * alpha."""
    geometry, alpha, lr, steps = GroupGate(depth=depth), 0.3, 1e-4, 8_000
    generator = torch.Generator().manual_seed(depth)
    latents = geometry.split(torch.randn(3, 4, dtype=torch.float64, generator=generator))
    for name in list(latents)[1:]:
        latents[name].mul_(torch.rand(3, 1, dtype=torch.float64, generator=generator) + 0.3)

    def apart() -> Tensor:
        squares = latents["v"].square().sum(1, keepdim=True)
        return torch.cat([squares - latents[name] ** 2 for name in list(latents)[1:]])

    before = apart()
    for step in range(steps):
        grad = geometry.compose(latents) - math.cos(lr * step)
        pulled = geometry.pull_back(latents, grad)
        geometry.decay(latents, lr * alpha)
        for name, latent in latents.items():
            latent.sub_(lr * pulled[name])
    strength = depth * alpha
    want = before * math.exp(-4 * strength * lr * steps / depth)
    torch.testing.assert_close(apart(), want, rtol=0, atol=1e-3)
    assert (before - want).abs().max() > 0.2


def test_resplit_keeps_the_gates(rng: torch.Generator) -> None:
    geometry = GroupGate(depth=3)
    latents = geometry.split(torch.randn(4, 5, generator=rng))
    x = torch.randn(4, 5, generator=rng)
    fresh = geometry.resplit(latents, x)
    torch.testing.assert_close(geometry.compose(fresh), x)
    for name in ("g1", "g2"):
        assert torch.equal(fresh[name], latents[name])
        assert fresh[name] is not latents[name]


def test_gates_stay_off_zero_and_cut_weights_are_positive_zeros() -> None:
    geometry = GroupGate(depth=2)
    latents = {"v": torch.ones(3, 2), "g1": torch.tensor([[0.0], [-1e-20], [-0.5]])}
    geometry.absorb(latents, latents, Landing())
    assert latents["g1"].flatten().tolist() == pytest.approx([1e-9, -1e-9, -0.5])
    latents["v"].zero_()
    assert not torch.signbit(geometry.compose(latents)).any()


class Gated(nn.Module):
    """An independent convolution with gated output channels."""

    def __init__(self, v: Tensor, gates: list[Tensor]) -> None:
        super().__init__()
        self.v = nn.Parameter(v.clone())
        self.gates = nn.ParameterList([gate.clone() for gate in gates])

    def forward(self, images: Tensor) -> Tensor:
        weight = self.v
        for gate in self.gates:
            weight = weight * gate
        return F.conv2d(images, weight)


@pytest.mark.parametrize("depth", DEPTHS)
def test_trains_as_a_parametrised_module_and_ends_exactly(depth: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 4, 3, bias=False)
    recipe = mm.Recipe(geometry=GroupGate(depth=depth), pressure=Constant(strength=0.01))
    base = torch.optim.SGD(layer.parameters(), lr=0.05, momentum=0.9)
    optimizer = mm.sparsify(base, layer, sparsity=0.5, steps=40, method=recipe)
    v, *gates = optimizer.weights[layer.weight].latents.values()
    oracle = Gated(v, gates)
    theirs = torch.optim.SGD(oracle.parameters(), lr=0.05, momentum=0.9, weight_decay=0.02)
    for step in range(40):
        images = torch.randn(8, 2, 5, 5, generator=torch.Generator().manual_seed(step))
        for net, by in ((layer, optimizer), (oracle, theirs)):
            by.zero_grad()
            (net(images) - 1.0).square().mean().backward()
            by.step()
    torch.testing.assert_close(layer(images), oracle(images), rtol=1e-4, atol=1e-6)
    report = optimizer.finalize()
    assert report.zeros == report.asked_zeros == 36


def test_strong_decay_brings_whole_channels_down() -> None:
    norms = {}
    for name, geometry in (("plain", mm.Recipe().geometry), ("gated", GroupGate(depth=2))):
        torch.manual_seed(1)
        layer = nn.Linear(8, 10, bias=False)
        recipe = mm.Recipe(geometry=geometry, pressure=Constant(strength=0.05))
        base = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9)
        optimizer = mm.sparsify(base, layer, sparsity=0.5, steps=800, method=recipe)
        wanted = torch.zeros(10, 8)
        wanted[:3] = 1.0
        wanted[3:] = 0.001
        for step in range(800):
            inputs = torch.randn(16, 8, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            (layer(inputs) - inputs @ wanted.T).square().sum(1).mean().backward()
            optimizer.step()
        norms[name] = layer.weight.detach().norm(dim=1)
    assert (norms["gated"][:3] > 2).all()
    assert (norms["gated"][3:] < 1e-4).all()
    assert (norms["plain"][3:] > 1e-3).all()


def test_no_gate_is_refused() -> None:
    with pytest.raises(ArgumentError, match="depth=1 leaves no gate: use at least 2"):
        GroupGate(depth=1)
