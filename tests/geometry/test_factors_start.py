"""Claim 1: the balanced start, against exact rational arithmetic."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from mirrormask.errors import ArgumentError
from mirrormask.geometry import Factors

ULPS = 4


def ulps_apart(got: float, want: mpmath.mpf, dtype: type) -> float:
    spacing = float(np.spacing(dtype(abs(float(want)))))
    return float(abs(mpmath.mpf(got) - want)) / spacing


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@example(magnitude=-12.0, sign=1.0, log_beta=1.0)
@example(magnitude=3.0, sign=-1.0, log_beta=-6.0)
@given(
    magnitude=st.floats(-12, 3),
    sign=st.sampled_from([-1.0, 1.0]),
    log_beta=st.floats(-6, 1),
)
def test_start_is_exact(dtype: type, magnitude: float, sign: float, log_beta: float) -> None:
    # beta is a Python float, so it is rounded to the dtype of x like any scalar.
    beta = float(dtype(10.0**log_beta))
    x = dtype(sign * 10.0**magnitude)
    latents = Factors(beta=beta).split(torch.tensor(x))
    m, w = latents["m"].item(), latents["w"].item()
    with mpmath.workdps(60):
        exact = mpmath.mpf(float(x))
        root = mpmath.sqrt(4 * exact**2 + mpmath.mpf(beta) ** 2)
        m0 = mpmath.sqrt((root + beta) / 2)
        assert ulps_apart(m, m0, dtype) <= ULPS
        assert ulps_apart(w, exact / m0, dtype) <= ULPS
        product = Factors().compose(latents).item()
        assert ulps_apart(product, exact, dtype) <= ULPS
        # The balance is a difference: it can be exact only to the spacing of m².
        error = abs(mpmath.mpf(m) ** 2 - mpmath.mpf(w) ** 2 - beta)
        assert error <= 4 * ULPS * float(np.spacing(dtype(m * m)))
    assert m > 0


@given(x=st.floats(-1e3, 1e3), dtype=st.sampled_from([torch.float32, torch.float64]))
@example(x=0.0, dtype=torch.float32)
def test_start_of_spred_is_the_signed_root(x: float, dtype: torch.dtype) -> None:
    weight = torch.tensor([x], dtype=dtype)
    latents = Factors(beta=0.0).split(weight)
    root = weight.abs().sqrt()
    torch.testing.assert_close(latents["m"], root)
    torch.testing.assert_close(latents["w"], weight.sign() * root)
    torch.testing.assert_close(Factors().compose(latents), weight)


def test_start_keeps_zero_and_does_not_touch_the_weight() -> None:
    x = torch.tensor([[0.0, -0.5], [2.0, 1e-20]], requires_grad=True)
    before = x.detach().clone()
    latents = Factors(beta=1.0).split(x)
    assert latents["w"][0, 0] == 0
    assert latents["m"].shape == x.shape
    assert not latents["m"].requires_grad
    latents["m"].zero_()
    assert torch.equal(x.detach(), before)


@pytest.mark.parametrize("beta", [-1e-9, math.nan, math.inf])
def test_bad_beta_is_refused_by_name(beta: float) -> None:
    with pytest.raises(ArgumentError, match=f"beta={beta}"):
        Factors(beta=beta)
