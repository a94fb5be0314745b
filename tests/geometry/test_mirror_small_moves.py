"""The short ways that the mirror step and its shrinkage take where moves are small."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mirrormask.geometry import Mirror
from mirrormask.geometry.mirror_step import SMALL_GAIN, mirror_step

EPS = 2.0**-24
scales = st.floats(-8, 1).map(lambda power: 10.0**power)
factors = st.floats(0.0, 1.0, width=32)


def weights(size: float) -> torch.Tensor:
    return torch.randn(1000, generator=torch.Generator().manual_seed(0)) * size


@given(size=scales, scale=scales, factor=factors)
@pytest.mark.parametrize("side", ["below", "above"])
def test_steps_agree_with_the_closed_form_on_both_sides_of_the_bound(
    side: str, size: float, scale: float, factor: float
) -> None:
    x, a = weights(size), torch.tensor(scale)
    # Below, all gains take the short way; above, one that is larger takes all the long one.
    gain = SMALL_GAIN * factor * torch.linspace(-1, 1, 1000)
    gain[0] = -SMALL_GAIN * (1.0 if side == "below" else 1.01)
    stepped = mirror_step(x, a, -2 * gain, a * 0.999)
    u, wide = gain.double(), torch.hypot(x.double(), a.double())
    wanted = (x.double() * torch.cosh(2 * u) + wide * torch.sinh(2 * u)) * (a * 0.999).double() / a
    spacing = torch.maximum(x.double().abs(), 2 * wide * u.abs()) * EPS
    assert ((stepped.double() - wanted).abs() <= 12 * spacing).all()


@given(size=scales, scale=scales, factor=factors)
@pytest.mark.parametrize("side", ["below", "above"])
def test_shrinkage_agrees_with_the_closed_form_on_both_sides_of_the_bound(
    side: str, size: float, scale: float, factor: float
) -> None:
    mirror, x = Mirror(a=scale), weights(size)
    amount = SMALL_GAIN / 2 * (factor if side == "below" else 1 + 1e-6 + factor)
    latents = mirror.split(x)
    mirror.shrink(latents, amount)
    a = latents["a"].double()
    dual = torch.asinh(x.double() / a)
    wanted = a * torch.sinh(dual.sign() * (dual.abs() - 2 * amount).clamp(min=0))
    spacing = (x.double().abs() + 2 * amount * torch.hypot(x.double(), a)) * EPS
    assert ((latents["x"].double() - wanted).abs() <= 8 * spacing).all()
    assert not torch.signbit(latents["x"][latents["x"] == 0]).any()


def test_a_step_without_gradient_moves_no_bit() -> None:
    x, a = weights(0.1), torch.tensor(0.5)
    assert torch.equal(mirror_step(x, a, torch.zeros(1000), a), x)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_wild_gradient_takes_the_long_way(value: float) -> None:
    x, a = weights(0.1), torch.tensor(0.5)
    z = torch.zeros(1000)
    z[3] = value
    stepped = mirror_step(x, a, z, a)
    assert torch.equal(stepped.isnan(), z.isnan())
    assert torch.equal(stepped[4:], x[4:])
