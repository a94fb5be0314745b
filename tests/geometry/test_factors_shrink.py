"""The proximal step of the factors, and what the geometry reports of itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mirrormask.geometry import Factors

PAIRS = hnp.arrays(
    np.float64, (2, 8), elements=st.floats(-1e3, 1e3).filter(lambda v: v == 0 or abs(v) > 1e-6)
)


def soft(theta: np.ndarray, amount: float) -> np.ndarray:
    return np.sign(theta) * np.maximum(np.abs(theta) - amount, 0)


@given(pair=PAIRS, amount=st.floats(0, 3))
def test_shrink_is_the_soft_threshold_of_the_dual(pair: np.ndarray, amount: float) -> None:
    m, w = pair
    balance = np.abs((m - w) * (m + w))
    latents = {"m": torch.from_numpy(m.copy()), "w": torch.from_numpy(w.copy())}
    geometry = Factors()
    geometry.shrink(latents, amount)
    new_m, new_w = latents["m"].numpy(), latents["w"].numpy()
    # x = (balance / 2) sinh(theta); balance 0 is the limit of an infinite theta.
    a = balance / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        mirror = a * np.sinh(soft(np.arcsinh(m * w / a), 2 * amount))
        want = np.where(a > 0, mirror, m * w * math.exp(-2 * amount))
    scale = np.maximum(m**2, w**2)
    np.testing.assert_array_less(np.abs(new_m * new_w - want), 1e-11 * scale + 1e-300)
    kept = np.abs((new_m - new_w) * (new_m + new_w))
    np.testing.assert_array_less(np.abs(kept - balance), 1e-11 * scale + 1e-300)


@given(pair=PAIRS)
def test_nothing_to_shrink_moves_no_bit(pair: np.ndarray) -> None:
    for dtype in (torch.float32, torch.float64):
        m, w = torch.from_numpy(pair).to(dtype)
        latents = {"m": m.clone(), "w": w.clone()}
        before = Factors().compose(latents).clone()
        Factors().shrink(latents, 0.0)
        assert torch.equal(Factors().compose(latents).abs(), before.abs())


def test_small_weights_feel_a_small_threshold_in_float32() -> None:
    x = torch.tensor([1e-9, 1e-6, 1e-4, 1e-2])
    geometry = Factors(beta=1.0)
    latents = geometry.split(x)
    geometry.shrink(latents, 1e-10)
    # Near zero the metric is 2a = 1, so the step takes off 2a * amount = 1e-10.
    torch.testing.assert_close(geometry.compose(latents), x - 1e-10, rtol=3e-7, atol=0)


@example(amount=100.0)
@example(amount=1e6)
@given(amount=st.floats(0, 1e6))
def test_any_amount_stays_finite(amount: float) -> None:
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([0.0, 1e-30, -1e-3, 0.5, -1e3], dtype=dtype)
        for beta in (0.0, 1e-6, 1.0):
            geometry = Factors(beta=beta)
            latents = geometry.split(x)
            geometry.shrink(latents, amount)
            out = geometry.compose(latents)
            assert torch.isfinite(latents["m"]).all()
            assert torch.isfinite(latents["w"]).all()
            assert (out.abs() <= x.abs() * (1 + 1e-6)).all()
            assert (out * x >= 0).all()


def test_shrink_gives_exact_zeros_and_they_can_return() -> None:
    geometry = Factors(beta=1.0)
    latents = geometry.split(torch.tensor([0.01, -0.01, 2.0]))
    geometry.shrink(latents, 0.05)
    x = geometry.compose(latents)
    assert x[:2].tolist() == [0.0, 0.0] and x[2] > 1.7
    torch.testing.assert_close(latents["m"][:2], torch.ones(2))
    assert geometry.pull_back(latents, torch.ones(3))["w"][0] != 0


def test_decay_is_an_exponential_of_twice_the_budget_to_first_order() -> None:
    geometry = Factors(beta=1.0)
    x = torch.tensor([0.3, -2.0], dtype=torch.float64)
    latents = geometry.split(x)
    for _ in range(10000):
        geometry.decay(latents, 1e-4)
    torch.testing.assert_close(geometry.compose(latents), x * math.exp(-4), rtol=1e-3, atol=0)
    assert abs(geometry.scale(latents).item() / (0.5 * math.exp(-4)) - 1) < 1e-3


def test_zero_latents_are_a_fixed_point() -> None:
    geometry = Factors()
    assert geometry.zero_is_fixed
    zero = {"m": torch.zeros(3), "w": torch.zeros(3)}
    pulled = geometry.pull_back(zero, torch.randn(3))
    assert not pulled["m"].any() and not pulled["w"].any()
    geometry.shrink(zero, 0.1)
    geometry.decay(zero, 0.1)
    assert not zero["m"].any() and not zero["w"].any()


def test_scale_is_the_median_over_live_coordinates() -> None:
    geometry = Factors(beta=1.0)
    latents = geometry.split(torch.randn(101, dtype=torch.float64))
    assert abs(geometry.scale(latents).item() - 0.5) < 1e-12
    latents["m"][:90], latents["w"][:90] = 0.0, 0.0
    assert abs(geometry.scale(latents).item() - 0.5) < 1e-12
    latents["m"].zero_()
    assert geometry.scale(latents).item() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compose_writes_where_told(dtype: torch.dtype) -> None:
    geometry = Factors(beta=1.0)
    x = torch.randn(4, 5)
    latents = geometry.split(x)
    out = torch.empty(4, 5, dtype=dtype)
    assert geometry.compose(latents, out=out) is out
    assert torch.equal(out, (latents["m"] * latents["w"]).to(dtype))
