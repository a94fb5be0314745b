"""One strength in three units, each convertible into the others, and true of a real run."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.geometry import Factors, Mirror
from mirrormask.pressure import Constant
from mirrormask.pressure.strength import Strength

PROPERTY = settings(derandomize=True, deadline=None, max_examples=150)

rates = st.lists(st.floats(1e-6, 10), min_size=1, max_size=50)
momenta = st.floats(0, 0.999)
betas = st.floats(1e-3, 10)


@PROPERTY
@given(st.floats(0, 5), rates, momenta, betas)
def test_three_units_agree(
    budget: float, learning_rates: list[float], momentum: float, beta: float
) -> None:
    one = Strength.from_budget(budget, learning_rates, momentum=momentum, beta=beta)
    two = Strength.from_alpha(one.alpha, learning_rates, momentum=momentum, beta=beta)
    three = Strength.from_scale(one.scale, learning_rates, momentum=momentum, beta=beta)
    for other in (two, three):
        assert math.isclose(other.budget, budget, rel_tol=1e-9, abs_tol=1e-12)
        assert math.isclose(other.alpha, one.alpha, rel_tol=1e-9, abs_tol=1e-6)
        assert math.isclose(other.scale, one.scale, rel_tol=1e-9)
    # The definitions themselves, once more.
    assert math.isclose(one.budget, one.alpha * sum(learning_rates) / (1 - momentum), rel_tol=1e-9)
    assert math.isclose(one.scale, beta / 2 * math.exp(-4 * budget), rel_tol=1e-9)


@pytest.mark.parametrize("geometry", [Factors(beta=0.8), Mirror(a=0.4)], ids=["factors", "mirror"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_run_ends_at_the_announced_scale(geometry: Factors | Mirror, momentum: float) -> None:
    # No gradient: the scale is then moved by the pressure alone, on a cosine schedule.
    steps = 3000
    learning_rates = [0.01 * (1 + math.cos(math.pi * t / steps)) for t in range(steps)]
    strength = Strength.from_scale(1e-2, learning_rates, momentum=momentum, beta=0.8)
    net = nn.Linear(5, 4, bias=False).double()
    base = torch.optim.SGD(net.parameters(), lr=1.0, momentum=momentum)
    recipe = mm.Recipe(geometry=geometry, pressure=Constant(strength=strength.alpha))
    optimizer = mm.sparsify(base, net, sparsity=0.5, steps=steps, method=recipe)
    net.weight.grad = torch.zeros_like(net.weight)
    for rate in learning_rates:
        base.param_groups[0]["lr"] = rate
        optimizer.step()
    assert optimizer.budget == pytest.approx(strength.budget, rel=1e-9)
    assert optimizer.scales()["weight"] == pytest.approx(strength.scale, rel=0.02)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Strength.from_alpha(-1.0, [0.1]), "alpha=-1.0 is not a strength"),
        (lambda: Strength.from_alpha(math.nan, [0.1]), "alpha=nan is not a strength"),
        (lambda: Strength.from_budget(math.inf, [0.1]), "budget=inf is not a strength"),
        (lambda: Strength.from_budget(1.0, []), "learning rates sum to 0"),
        (lambda: Strength.from_budget(1.0, [0.0, 0.0]), "learning rates sum to 0"),
        (lambda: Strength.from_budget(1.0, [math.nan]), "learning rates sum to nan"),
        (
            lambda: Strength.from_alpha(1.0, [0.1], momentum=1.0),
            r"momentum=1.0 is outside \[0, 1\)",
        ),
        (lambda: Strength.from_alpha(1.0, [0.1], momentum=-0.1), "momentum=-0.1 is outside"),
        (lambda: Strength.from_scale(0.0, [0.1]), "scale=0.0 cannot be reached from beta=1.0"),
        (lambda: Strength.from_scale(0.6, [0.1]), "scale=0.6 cannot be reached"),
        (lambda: Strength.from_scale(math.nan, [0.1]), "scale=nan cannot be reached"),
        (lambda: Strength.from_alpha(1.0, [0.1], beta=-1.0), "beta=-1.0 is not a balance"),
        (lambda: Strength.from_budget(1.0, [0.1], beta=math.nan), "beta=nan is not a balance"),
        (lambda: Strength.from_scale(0.1, [0.1], beta=-1.0), "beta=-1.0 is not a balance"),
    ],
)
def test_bad_arguments_are_refused(build: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        build()
