"""The mirror in units of each layer: Mirror at another rate, factors in the limit, weight decay."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.geometry import Factors, Landing, Latents, Mirror, ScaledMirror


def weights(seed: int, spread: float = 0.1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(50, generator=generator, dtype=torch.float64) * spread


def with_rms(geometry: ScaledMirror, x: Tensor, rms: float) -> Latents:
    """Latents of a part of a weight whose root mean square as a whole is another."""
    latents = geometry.split(x)
    geometry.settle(latents, lambda: torch.tensor(rms, dtype=x.dtype))
    return latents


@given(st.floats(1e-3, 10), st.floats(0.5, 20), st.integers(0, 99))
def test_a_step_is_one_of_mirror_at_a_rate_divided_by_twice_the_scale(
    rms: float, width: float, seed: int
) -> None:
    geometry = ScaledMirror(width=width)
    x, move = weights(seed, rms), weights(seed + 1, 0.1 * rms)
    a = width * float(x.square().mean().sqrt())
    latents, plain = geometry.split(x), Mirror(a=a).split(x)
    geometry.absorb(latents, {"dual": move.clone()}, Landing())
    Mirror(a=a).absorb(plain, {"dual": move / (2 * a)}, Landing())
    torch.testing.assert_close(latents["x"], plain["x"], rtol=1e-12, atol=1e-14)


def test_it_follows_factors_to_first_order_in_the_rate() -> None:
    x, target = weights(0), weights(1)
    a = 3.0 * float(x.square().mean().sqrt())
    errors = []
    for lr in (0.02, 0.01):
        geometry, factors = ScaledMirror(width=3.0), Factors(beta=2 * a)
        one, two = geometry.split(x), factors.split(x)
        for _ in range(round(1 / lr)):
            geometry.absorb(one, {"dual": -lr * (one["x"] - target)}, Landing())
            pulled = factors.pull_back(two, factors.compose(two) - target)
            for name, latent in two.items():
                latent.sub_(pulled[name], alpha=lr / (2 * a))
        errors.append(float((one["x"] - factors.compose(two)).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)


def test_small_weights_move_as_the_optimizer_alone_moves_them_and_large_ones_faster() -> None:
    geometry = ScaledMirror(width=3.0)
    x = torch.tensor([0.0, 3.0, -30.0], dtype=torch.float64)
    latents = with_rms(geometry, x, 1.0)
    geometry.absorb(latents, {"dual": torch.full_like(x, -1e-6)}, Landing())
    expected = -1e-6 * torch.sqrt(1 + (x / 3.0) ** 2)
    torch.testing.assert_close(latents["x"] - x, expected, rtol=1e-5, atol=0)


@given(st.floats(1e-4, 5), st.integers(0, 99))
def test_a_proximal_step_brings_all_weights_nearer_by_its_amount(amount: float, seed: int) -> None:
    geometry = ScaledMirror(width=2.0)
    latents = with_rms(geometry, weights(seed, 1.0), 0.5)
    before = geometry.distance(latents)
    geometry.shrink(latents, amount)
    expected = (before - amount).clamp(min=0)
    torch.testing.assert_close(geometry.distance(latents), expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(latents["x"] == 0, before <= amount)


def test_the_distance_of_a_small_weight_is_its_size() -> None:
    geometry = ScaledMirror(width=3.0)
    small = torch.tensor([1e-3, -1e-2])
    latents = with_rms(geometry, small, 1.0)
    torch.testing.assert_close(geometry.distance(latents), small.abs(), rtol=1e-4, atol=0)


OPTIMIZERS = {
    # Momentum of one half doubles the rate.
    "sgd": (2.0, lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=0.5)),
    "adam": (1.0, lambda groups: torch.optim.Adam(groups, lr=0.01)),
    "adamw": (1.0, lambda groups: torch.optim.AdamW(groups, lr=0.01)),
    "adamw, foreach": (1.0, lambda groups: torch.optim.AdamW(groups, lr=0.01, foreach=True)),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_caller_s_weight_decay_reaches_the_weights_of_each_group(kind: str) -> None:
    """With no gradient at all, weights shrink as decay alone shrinks them."""
    gain, build = OPTIMIZERS[kind]
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(6, 4, bias=False) for _ in range(2)))
    before = [layer.weight.detach().clone() for layer in model]
    decays = (0.1, 0.02)
    groups = [
        {"params": [layer.weight], "weight_decay": decay}
        for layer, decay in zip(model, decays, strict=True)
    ]
    recipe = mm.Recipe(geometry=ScaledMirror(width=1e6))  # flat: the Euclidean limit
    sparse = mm.sparsify(build(groups), model, sparsity=0.0, steps=100, method=recipe)
    for _ in range(100):
        for layer in model:
            layer.weight.grad = torch.zeros_like(layer.weight)
        sparse.step()
    for layer, old, decay in zip(model, before, decays, strict=True):
        expected = old * (1 - 0.01 * decay * gain) ** 100
        torch.testing.assert_close(layer.weight.detach(), expected, rtol=2e-4, atol=1e-6)


def test_the_scale_is_that_of_the_tensor_at_the_start_and_survives_a_resume() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(30, 20)
    rms = math.sqrt(float(layer.weight.detach().square().mean()))
    recipe = mm.Recipe(geometry=ScaledMirror(width=3.0))
    first = mm.sparsify(
        torch.optim.SGD(layer.parameters(), lr=0.1), layer, sparsity=0.5, steps=9, method=recipe
    )
    assert first.scales()["weight"] == pytest.approx(3 * rms, rel=1e-6)
    state = first.state_dict()
    with torch.no_grad():
        layer.weight.mul_(10.0)  # training went on: a new start would find another scale
    again = mm.sparsify(
        torch.optim.SGD(layer.parameters(), lr=0.1), layer, sparsity=0.5, steps=9, method=recipe
    )
    again.load_state_dict(state)
    assert again.scales()["weight"] == pytest.approx(3 * rms, rel=1e-6)
    for weight in again.weights.values():
        weight.geometry.decay(weight.latents, 0.1)
        assert float(weight.latents["a"]) < 2.9 * rms
        weight.rebalance()
    assert again.scales()["weight"] == pytest.approx(3 * rms, rel=1e-6)


def test_a_tensor_of_zeros_has_a_scale() -> None:
    latents = ScaledMirror(width=3.0).split(torch.zeros(4))
    assert float(latents["a"]) == 3.0


@pytest.mark.parametrize("width", [0, -1.0, math.nan, math.inf])
def test_a_width_that_is_no_scale_is_refused(width: float) -> None:
    with pytest.raises(ArgumentError, match=r"width=.* is not a scale"):
        ScaledMirror(width=width)
