"""Deep factors: split and start, their decay and equivalence, and training as a module would."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torch import Tensor, nn
from torch.nn import functional as F

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.geometry import Depth, Factors
from mirrormask.geometry.depth import products_of_others
from mirrormask.pressure import Constant

DEPTHS = (2, 3, 4, 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(
    log_x=st.floats(-20, 4),
    sign=st.sampled_from([-1.0, 1.0]),
    beta=st.one_of(st.just(0.0), st.floats(-6, 1).map(lambda e: 10.0**e)),
    depth=st.sampled_from(DEPTHS),
)
@example(log_x=4.0, sign=-1.0, beta=1e-6, depth=5)
def test_a_split_composes_to_the_weight_and_has_the_balance(
    dtype: torch.dtype, log_x: float, sign: float, beta: float, depth: int
) -> None:
    x = torch.tensor([sign * 10.0**log_x, 0.0], dtype=dtype)
    geometry = Depth(factors=depth, beta=beta)
    latents = geometry.split(x)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(geometry.compose(latents), x, rtol=4 * depth * eps, atol=0)
    *others, last = latents.values()
    assert all(torch.equal(other, others[0]) for other in others)
    assert (others[0] >= 0).all()
    assert last[0] * sign > 0
    assert last[1] == 0
    balance = others[0] ** 2 - last**2
    size = others[0] ** 2
    assert ((balance - beta).abs() <= 20 * depth * eps * (size + beta)).all()


def test_two_split_factors_are_those_of_factors_and_move_as_they_do() -> None:
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)
    for beta in (0.0, 0.3, 1.0):
        deep, pair = Depth(factors=2, beta=beta), Factors(beta=beta)
        latents, wanted = deep.split(x), pair.split(x)
        torch.testing.assert_close(latents["f1"], wanted["m"], rtol=1e-14, atol=1e-15)
        torch.testing.assert_close(latents["f2"], wanted["w"], rtol=1e-14, atol=1e-15)
        latents = {"f1": wanted["m"].clone(), "f2": wanted["w"].clone()}
        for step in range(50):
            grad = torch.sin(x + step)
            for geometry, mine in ((deep, latents), (pair, wanted)):
                pulled = geometry.pull_back(mine, grad)
                geometry.decay(mine, 1e-3)
                for name, latent in mine.items():
                    latent.sub_(0.05 * pulled[name])
            assert torch.equal(deep.compose(latents), pair.compose(wanted))


@pytest.mark.parametrize("depth", DEPTHS)
def test_pull_back_is_the_chain_rule_also_through_zeros(depth: int, rng: torch.Generator) -> None:
    latents = {
        f"f{i}": torch.randn(6, dtype=torch.float64, generator=rng) for i in range(1, depth + 1)
    }
    latents["f1"][0] = latents["f2"][1] = latents["f1"][2] = latents["f2"][2] = 0.0
    grad = torch.randn(6, dtype=torch.float64, generator=rng)
    leaves = [latent.clone().requires_grad_() for latent in latents.values()]
    torch.stack(leaves).prod(0).backward(grad)
    pulled = Depth(factors=depth).pull_back(latents, grad)
    assert list(pulled) == list(latents)
    for got, leaf in zip(pulled.values(), leaves, strict=True):
        torch.testing.assert_close(got, leaf.grad, rtol=1e-14, atol=1e-15)


def test_products_of_others_sum_nothing_by_themselves() -> None:
    gates = {"v": torch.ones(2, 3), "g": torch.full((2, 1), 5.0)}
    pulled = products_of_others(gates, torch.ones(2, 3))
    assert pulled["v"].shape == pulled["g"].shape == (2, 3)
    assert (pulled["v"] == 5).all()


def flow(depth: int, start: np.ndarray, strength: float, end: float) -> np.ndarray:
    """Integrate the geometry's own field with the decay of strength lambda, [D, n] at the end."""
    geometry = Depth(factors=depth)
    alpha = strength / depth  # alpha |f|² each is (lambda / D) sum |f|²

    def field(t: float, y: np.ndarray) -> np.ndarray:
        f = torch.from_numpy(y.reshape(depth, -1))
        latents = {f"f{i}": f[i].clone() for i in range(depth)}
        grad = geometry.compose(latents) - math.cos(t)
        pulled = torch.stack(list(geometry.pull_back(latents, grad).values()))
        small = 1e-6
        geometry.decay(latents, small * alpha)
        decayed = (torch.stack(list(latents.values())) - f) / small
        return (decayed - pulled).numpy().ravel()

    solved = solve_ivp(field, (0, end), start.ravel(), method="DOP853", rtol=1e-10, atol=1e-12)
    return solved.y[:, -1].reshape(depth, -1)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_imbalance_decays_by_four_lambda_t_over_depth(depth: int) -> None:
    """Claim 23."""
    start = np.random.default_rng(depth).normal(size=(depth, 4))
    strength, end = 0.4, 1.5
    got = flow(depth, start, strength, end)
    want = (start[1:] ** 2 - start[:1] ** 2) * math.exp(-4 * strength * end / depth)
    np.testing.assert_allclose(got[1:] ** 2 - got[:1] ** 2, want, rtol=1e-6, atol=1e-8)


def test_the_imbalance_of_a_plain_euler_descent_follows_the_same_law() -> None:
    depth, alpha, lr, steps = 3, 0.2, 1e-4, 10_000
    start = torch.tensor([[1.1, 0.4], [0.6, -0.8], [0.2, 1.3]], dtype=torch.float64)
    geometry = Depth(factors=depth)
    latents = {f"f{i}": start[i].clone() for i in range(depth)}
    for _ in range(steps):
        pulled = geometry.pull_back(latents, geometry.compose(latents) - 0.5)
        geometry.decay(latents, lr * alpha)
        for name, latent in latents.items():
            latent.sub_(lr * pulled[name])
    got = latents["f0"] ** 2 - latents["f1"] ** 2
    want = (start[0] ** 2 - start[1] ** 2) * math.exp(-4 * alpha * lr * steps)
    torch.testing.assert_close(got, want, rtol=1e-3, atol=0)


@pytest.mark.parametrize("depth", DEPTHS)
def test_constant_decay_stops_where_the_non_convex_penalty_does(depth: int) -> None:
    """(x - c)² / 2 + D alpha |x|^(2/D): its stationary point by bisection, and zero below it."""
    alpha, target = 0.05, torch.tensor([2.0, 0.02], dtype=torch.float64)
    geometry = Depth(factors=depth, beta=0.0)
    latents = geometry.split(target)
    for _ in range(20_000):
        pulled = geometry.pull_back(latents, geometry.compose(latents) - target)
        geometry.decay(latents, 0.02 * alpha)
        for name, latent in latents.items():
            latent.sub_(0.02 * pulled[name])
    low, high = 1.0, 2.0
    for _ in range(60):
        middle = (low + high) / 2
        slope = middle - 2.0 + 2 * alpha * middle ** (2 / depth - 1)
        low, high = (middle, high) if slope < 0 else (low, middle)
    x = geometry.compose(latents)
    assert x[0].item() == pytest.approx(low, rel=1e-4)  # decay and step in turn: off by O(lr)
    assert abs(x[1].item()) < 1e-6


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("size", [0.02, 1.0, 30.0])
def test_the_own_start_has_the_size_of_the_weight_and_no_extremes(
    depth: int, size: float, rng: torch.Generator
) -> None:
    x = size * (2 * torch.rand(400, 500, generator=rng) - 1)
    rms = x.square().mean().sqrt().item()
    geometry = Depth(factors=depth)
    latents = geometry.start(x, rng)
    product = geometry.compose(latents)
    assert product.square().mean().sqrt().item() == pytest.approx(rms, rel=0.01)
    assert abs(product.mean().item()) < 0.01 * rms
    for factor in latents.values():
        assert factor.square().mean().item() == pytest.approx(rms ** (2 / depth), rel=0.01)
        sizes = factor.abs()
        assert (sizes.max() / sizes.min()).item() <= 20 ** (1 / depth) * (1 + 1e-4)
        assert (sizes.max() / sizes.min()).item() > 0.98 * 20 ** (1 / depth)
        assert abs((factor > 0).float().mean().item() - 0.5) < 0.01


def test_the_own_start_is_drawn_from_the_generator_alone() -> None:
    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed + 100)
        return Depth().start(torch.ones(9), torch.Generator().manual_seed(seed))["f1"]

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


def test_a_start_from_the_given_weights_draws_nothing(rng: torch.Generator) -> None:
    x = torch.randn(20, generator=rng)
    before = rng.get_state()
    geometry = Depth(initial="split")
    torch.testing.assert_close(geometry.compose(geometry.start(x, rng)), x)
    assert torch.equal(rng.get_state(), before)
    zeros = Depth().start(torch.zeros(3), rng)  # no size to draw from
    assert not Depth().compose(zeros).any()
    assert Depth().pull_back(zeros, torch.ones(3))["f3"].all()


def test_zero_latents_are_a_fixed_point() -> None:
    zero = {f"f{i}": torch.zeros(3) for i in range(3)}
    pulled = Depth().pull_back(zero, torch.ones(3))
    assert not any(part.any() for part in pulled.values())


class Parametrised(nn.Module):
    """An independent linear layer whose weight is a product of trained factors."""

    def __init__(self, factors: list[Tensor], bias: Tensor) -> None:
        super().__init__()
        self.factors = nn.ParameterList([f.clone() for f in factors])
        self.bias = nn.Parameter(bias.clone())

    def forward(self, inputs: Tensor) -> Tensor:
        weight = self.factors[0]
        for factor in list(self.factors)[1:]:
            weight = weight * factor
        return F.linear(inputs, weight, self.bias)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("base", ["sgd", "adamw"])
def test_trains_as_a_parametrised_module(depth: int, base: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)

    def stepped(groups: object, decay: float) -> torch.optim.Optimizer:
        if base == "sgd":
            return torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=decay)
        return torch.optim.AdamW(groups, lr=0.01, weight_decay=decay)

    recipe = mm.Recipe(geometry=Depth(factors=depth), pressure=Constant(strength=0.01))
    optimizer = mm.sparsify(
        stepped(layer.parameters(), 0.0), layer, sparsity=0.5, steps=40, method=recipe, seed=1
    )
    latents = optimizer.weights[layer.weight].latents
    oracle = Parametrised(list(latents.values()), layer.bias.detach())
    theirs = stepped(
        [{"params": list(oracle.factors)}, {"params": [oracle.bias], "weight_decay": 0.0}], 0.02
    )
    for step in range(40):
        inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        for net, by in ((layer, optimizer), (oracle, theirs)):
            by.zero_grad()
            (net(inputs) - inputs[:, :4]).square().mean().backward()
            by.step()
    with torch.no_grad():
        inputs = torch.eye(6)
        torch.testing.assert_close(layer(inputs), oracle(inputs), rtol=1e-4, atol=1e-6)
    assert optimizer.finalize().zeros == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": 1}, "factors=1 make no product: use at least 2"),
        ({"beta": -1.0}, r"beta=-1\.0 is not a balance"),
        ({"beta": math.nan}, "beta=nan is not a balance"),
        ({"initial": "random"}, "initial='random' is unknown: use one of"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Depth(**options)


def test_a_proximal_pressure_is_refused() -> None:
    with pytest.raises(ArgumentError, match="Depth has no proximal step"):
        mm.Recipe(geometry=Depth(), pressure=Constant(strength=1.0, application="proximal"))
