"""The potential against automatic differentiation, finite differences and high precision."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mirrormask.errors import ArgumentError
from mirrormask.geometry.mirror_step import mirror_step
from mirrormask.lab.potential import (
    bregman,
    check_scale,
    dual,
    effective_exponent,
    gradient,
    hessian,
    inverse_gradient,
    minimiser,
    potential,
    primal,
    scale_at,
    time_derivative,
)

WEIGHTS = hnp.arrays(np.float64, 6, elements=st.floats(-50, 50))
SCALES = st.floats(-12, 1).map(lambda e: 10.0**e)


def torch_potential(x: torch.Tensor, a: float, x0: float) -> torch.Tensor:
    tilt = np.arcsinh(2 * x0)
    return 0.5 * (x * torch.asinh(x / a) - torch.sqrt(x**2 + a**2) - x * tilt).sum()


@given(x=WEIGHTS, a=st.floats(1e-3, 10), x0=st.floats(-2, 2))
def test_value_gradient_and_hessian_agree_with_autograd(x: np.ndarray, a: float, x0: float) -> None:
    at = torch.from_numpy(x).requires_grad_()
    value = torch_potential(at, a, x0)
    (slope,) = torch.autograd.grad(value, at, create_graph=True)
    bend = torch.autograd.grad(slope.sum(), at)[0]
    np.testing.assert_allclose(potential(x, a, x0), value.item(), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(gradient(x, a, x0), slope.detach().numpy(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(hessian(x, a), bend.numpy(), rtol=1e-9)


@given(x=WEIGHTS, a=SCALES, x0=st.floats(-2, 2))
def test_inverse_map_inverts_the_gradient(x: np.ndarray, a: float, x0: float) -> None:
    back = inverse_gradient(gradient(x, a, x0), a, x0)
    np.testing.assert_allclose(back, x, rtol=1e-12, atol=1e-14 * a)


@given(theta=st.floats(-900, 900), log_a=st.floats(-390, 0))
def test_primal_is_sinh_wherever_the_result_is_a_number(theta: float, log_a: float) -> None:
    a = float(mpmath.exp(log_a * mpmath.log(10) / 1.3))
    want = mpmath.mpf(a) * mpmath.sinh(mpmath.mpf(theta))
    if a < 1e-300 or not 1e-290 < abs(want) < 1e290:
        return
    got = primal(np.array([theta]), a)[0]
    assert abs(got / float(want) - 1) < 1e-11


@given(x=WEIGHTS, y=WEIGHTS, a=SCALES)
def test_bregman_divergence_is_never_negative_and_only_zero_at_itself(
    x: np.ndarray, y: np.ndarray, a: float
) -> None:
    size = np.abs(x).sum() + np.abs(y).sum() + a
    assert bregman(x, y, a) >= -1e-13 * size * 40
    assert bregman(x, x, a) == 0
    direct = potential(x, a) - potential(y, a) - (gradient(y, a) * (x - y)).sum()
    np.testing.assert_allclose(bregman(x, y, a), direct, rtol=1e-7, atol=1e-11 * size * 40)


@given(x=WEIGHTS, budget=st.floats(0, 2), alpha=st.floats(0.01, 2))
def test_time_derivative_by_finite_difference(x: np.ndarray, budget: float, alpha: float) -> None:
    h = 1e-6
    ends = [potential(x, scale_at(budget + alpha * step)) for step in (-h, h)]
    rate = time_derivative(x, scale_at(budget), alpha)
    np.testing.assert_allclose((ends[1] - ends[0]) / (2 * h), rate, rtol=1e-5, atol=1e-6)


@given(x=WEIGHTS, z=WEIGHTS, a=st.floats(1e-6, 1), fall=st.floats(0, 1))
def test_the_map_of_the_lab_is_the_step_of_the_optimizer(
    x: np.ndarray, z: np.ndarray, a: float, fall: float
) -> None:
    z = z / 10
    a_next = a * np.exp(-fall)
    step = mirror_step(
        torch.from_numpy(x),
        torch.tensor(a, dtype=torch.float64),
        torch.from_numpy(z),
        torch.tensor(a_next, dtype=torch.float64),
    )
    want = primal(dual(x, a) - z, a_next)
    size = (np.abs(x) + a) * np.exp(np.abs(z))
    assert (np.abs(step.numpy() - want) <= 1e-12 * size).all()


@given(x=hnp.arrays(np.float64, 4, elements=st.floats(1e-6, 50)), a=SCALES)
def test_effective_exponent_is_the_log_derivative(x: np.ndarray, a: float) -> None:
    h = 1e-4
    zero = np.zeros_like(x)
    up, down = bregman(x * np.exp(h), zero, a), bregman(x * np.exp(-h), zero, a)
    got = float(effective_exponent(x, a))
    assert 1 < got <= 2 + 1e-6
    # The heights lose digits where x is far below a.
    if x.max() > 1e-3 * a:
        np.testing.assert_allclose(np.log(up / down) / (2 * h), got, rtol=1e-5)


def test_exponent_of_nothing_is_two() -> None:
    assert effective_exponent(np.zeros(3), 0.5) == 2


def test_minimum_is_where_the_gradient_vanishes() -> None:
    x0 = np.array([-1.0, 0.0, 0.4])
    np.testing.assert_allclose(gradient(minimiser(x0, 0.7), scale_at(0.7), x0), 0, atol=1e-15)


@pytest.mark.parametrize("a", [0.0, -0.5, np.nan, np.inf])
def test_bad_scale_is_refused_by_name(a: float) -> None:
    with pytest.raises(ArgumentError, match=f"a={a}"):
        check_scale(a)
