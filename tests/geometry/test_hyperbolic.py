"""HAM against its update written plainly, its metric, and its proximal step."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torch import nn

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.geometry import Euclidean, Hyperbolic, Landing
from mirrormask.masking import GradualCubic

BASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.02),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
}


@pytest.mark.parametrize("kind", BASES)
def test_equals_the_paper_s_update_after_any_optimizer(kind: str) -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(6, 4), nn.Linear(6, 4)
    theirs.load_state_dict(ours.state_dict())
    recipe = mm.Recipe(
        geometry=Hyperbolic(A=30.0, B=0.05), masking=GradualCubic(begin=0.9, end=1.0)
    )
    optimizer = mm.sparsify(
        BASES[kind](ours.parameters()), ours, sparsity=0.5, steps=40, method=recipe
    )
    plain = BASES[kind](theirs.parameters())
    for step in range(40):
        for group in (*optimizer.param_groups, *plain.param_groups):
            group["lr"] *= 0.98
        inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        for net, by in ((ours, optimizer), (theirs, plain)):
            by.zero_grad()
            (net(inputs) - inputs[:, :4]).square().mean().backward()
            by.step()
        with torch.no_grad():
            w, lr = theirs.weight, plain.param_groups[0]["lr"]
            w.copy_(w * torch.exp(-lr * (30.0 * torch.sign(w) * w.grad + 0.05)))
        if step < 36:
            torch.testing.assert_close(ours.weight, theirs.weight, rtol=2e-4, atol=1e-6)
    report = optimizer.finalize()
    assert report.zeros == report.asked_zeros == 12


def test_descent_moves_in_the_metric_one_plus_a_times_size() -> None:
    x = torch.tensor([0.0, 1e-4, -0.05, 0.7, -3.0], dtype=torch.float64)
    grad = torch.tensor([1.0, -0.4, 0.3, -2.0, 0.5], dtype=torch.float64)
    A, B, lr = 40.0, 0.3, 1e-7
    geometry = Hyperbolic(A=A, B=B)
    latents = geometry.split(x)
    latents["x"].sub_(lr * grad)
    geometry.absorb(latents, latents, Landing(rate=lr, grad=grad))
    moved = (geometry.compose(latents) - x) / lr
    torch.testing.assert_close(moved, -(1 + A * x.abs()) * grad - B * x, rtol=1e-4, atol=1e-6)
    assert moved[0].item() == pytest.approx(-1.0, rel=1e-5)  # the optimizer's own speed


@given(
    x=st.floats(-1e3, 1e3, width=32),
    grad=st.floats(allow_nan=False, width=32),
    A=st.floats(1e-3, 1e4),
    rate=st.floats(0, 10),
)
@example(x=1e3, grad=-math.inf, A=200.0, rate=0.1)
@example(x=-1e-30, grad=math.inf, A=200.0, rate=0.1)
def test_the_factor_never_turns_a_sign_and_never_overflows(
    x: float, grad: float, A: float, rate: float
) -> None:
    geometry = Hyperbolic(A=A, B=0.0)
    latents = geometry.split(torch.tensor([x]))
    geometry.absorb(latents, latents, Landing(rate=rate, grad=torch.tensor([grad])))
    after = latents["x"].item()
    if rate == 0 and math.isinf(grad):
        return  # 0 * inf says nothing
    assert abs(after) <= abs(x) * math.exp(8) * (1 + 1e-5)
    if abs(x) > 1e-30:
        assert after * x > 0
        # The factor grows what the gradient wants to grow.
        assert (abs(after) - abs(x)) * (-grad * x) >= 0
    else:
        assert after == 0 or after * x > 0


def test_without_a_gradient_only_the_decay_is_left() -> None:
    geometry = Hyperbolic(A=10.0, B=0.5)
    x = torch.tensor([1.0, -2.0])
    latents = geometry.split(x)
    geometry.absorb(latents, latents, Landing(rate=0.1))
    torch.testing.assert_close(latents["x"], x * math.exp(-0.05))


@pytest.mark.parametrize("x", [1e-3, 0.4, 3.0])
@pytest.mark.parametrize("A", [0.5, 20.0])
def test_shrink_is_the_flow_of_an_l1_penalty_in_the_metric(x: float, A: float) -> None:
    geometry = Hyperbolic(A=A)
    start = torch.tensor([x, -x], dtype=torch.float64)
    latents = geometry.split(start)
    distance = geometry.distance(latents)
    assert distance[0] == distance[1]
    amount = 0.4 * distance[0].item()
    solved = solve_ivp(lambda t, y: -(1 + A * y), (0, amount), [x], rtol=1e-12, atol=1e-15)
    geometry.shrink(latents, amount)
    want = solved.y[0, -1]
    torch.testing.assert_close(
        latents["x"], torch.tensor([want, -want]).double(), rtol=1e-7, atol=0
    )
    geometry.shrink(latents, 0.6 * distance[0].item() * (1 + 1e-9))
    assert latents["x"].tolist() == [0.0, 0.0]
    assert not torch.signbit(latents["x"]).any()


@pytest.mark.parametrize("A", [2.0, 50.0])
def test_a_sign_turns_sooner_than_under_the_optimizer_alone(A: float) -> None:
    """Pulled by g = 1, a weight reaches zero after the time log(1 + A x) / A in place of x."""
    lr, x = 1e-4, 0.4
    geometry = Hyperbolic(A=A, B=0.0)
    latents = geometry.split(torch.tensor([x], dtype=torch.float64))
    grad, steps = torch.ones(1, dtype=torch.float64), 0
    while latents["x"].item() > 0:
        latents["x"].sub_(lr * grad)
        geometry.absorb(latents, latents, Landing(rate=lr, grad=grad))
        steps += 1
    assert steps * lr == pytest.approx(math.log(1 + A * x) / A, rel=0.02)
    assert steps * lr < 0.75 * x
    for _ in range(10):  # and goes on to the other side
        latents["x"].sub_(lr * grad)
        geometry.absorb(latents, latents, Landing(rate=lr, grad=grad))
    assert latents["x"].item() < -5 * lr


def test_a_weak_metric_is_the_euclidean_one(rng: torch.Generator) -> None:
    x = torch.randn(50, dtype=torch.float64, generator=rng)
    weak, plain = Hyperbolic(A=1e-9), Euclidean()
    one, two = weak.split(x), plain.split(x)
    torch.testing.assert_close(weak.distance(one), plain.distance(two))
    weak.shrink(one, 0.3)
    plain.shrink(two, 0.3)
    torch.testing.assert_close(one["x"], two["x"], rtol=1e-6, atol=1e-8)
    assert weak.scale(one).item() == pytest.approx(1e9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"A": 0.0}, r"A=0\.0 is no strength of a metric"),
        ({"A": math.nan}, "A=nan is no strength"),
        ({"B": -1e-3}, r"B=-0\.001 is no rate of decay"),
        ({"B": math.inf}, "B=inf is no rate"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Hyperbolic(**options)
