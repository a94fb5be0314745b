"""Three ways to integrate one flow, and the closed form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrormask.errors import ArgumentError
from mirrormask.lab.depth import deep_flow
from mirrormask.lab.flow import closed_form, dual_flow, factor_flow, flip_pull, weight_flow
from mirrormask.lab.potential import scale_at
from mirrormask.lab.schedules import Constant, Geometric, Harmonic, Quadratic, Schedule

TIMES = np.array([0.2, 1.0, 3.0])
RNG = np.random.default_rng(1)
Z, Y = RNG.normal(size=(3, 5)), RNG.normal(size=3)
X0 = 0.5 * RNG.normal(size=5)


def regression(t: float, x: np.ndarray) -> np.ndarray:
    return Z.T @ (Z @ x - Y)


@pytest.mark.parametrize(
    "schedule",
    [
        Constant(strength=0.0),
        Constant(strength=0.3),
        Harmonic(strength=0.5),
        Quadratic(strength=0.5),
        Geometric(strength=0.5, ratio=0.4),
    ],
)
@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_factors_weight_and_dual_follow_one_path(schedule: Schedule, beta: float) -> None:
    factors = factor_flow(regression, X0, schedule, TIMES, beta=beta).x
    weight = weight_flow(regression, X0, schedule, TIMES, beta=beta)
    dual = dual_flow(regression, X0, schedule, TIMES, beta=beta)
    np.testing.assert_allclose(weight, factors, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(dual, factors, rtol=1e-8, atol=1e-9)


@given(
    x0=st.floats(-3, 3),
    push=st.floats(-2, 2),
    strength=st.floats(0, 1),
    beta=st.floats(0.05, 3),
)
def test_closed_form_under_a_steady_push(
    x0: float, push: float, strength: float, beta: float
) -> None:
    start, end = np.array([x0]), np.array([1.0])
    schedule = Constant(strength=strength)
    x = factor_flow(lambda t, x: np.array([push]), start, schedule, end, beta=beta).x
    want = closed_form(start, np.array([push]), strength, beta)
    np.testing.assert_allclose(x[0], want, rtol=1e-9, atol=1e-10)


def test_sign_flips_at_the_pull_stated() -> None:
    x0 = np.array([0.3, -1.2])
    for beta in (0.1, 1.0):
        np.testing.assert_allclose(closed_form(x0, flip_pull(x0, beta), 0.7, beta), 0, atol=1e-14)


def test_two_deep_factors_are_the_factors() -> None:
    """Depth 2 with the penalty alpha * 2 is the flow of (m, w) with decay alpha."""
    path = factor_flow(regression, X0, Constant(strength=0.3), TIMES)
    start = np.stack(
        [
            factor_flow(regression, X0, Constant(strength=0.3), np.array([1e-9])).m[0],
            factor_flow(regression, X0, Constant(strength=0.3), np.array([1e-9])).w[0],
        ]
    )
    deep = deep_flow(regression, start, 0.3 * 2, TIMES)
    np.testing.assert_allclose(deep[:, 0], path.m, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(deep[:, 1], path.w, rtol=1e-6, atol=1e-7)


def test_balance_decays_to_tiny_scales_without_losing_digits() -> None:
    end = np.array([4.0])
    path = factor_flow(lambda t, x: 0 * x, X0, Constant(strength=1.0), end, rtol=1e-13, atol=1e-30)
    np.testing.assert_allclose(path.balance[0], 2 * scale_at(4.0), rtol=1e-6)


@pytest.mark.parametrize("times", [np.array([1.0, 0.5]), np.array([-1.0]), np.ones((2, 2))])
def test_bad_times_are_refused(times: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="do not ascend"):
        weight_flow(regression, X0, Constant(strength=0.1), times)


def test_one_factor_is_no_depth() -> None:
    with pytest.raises(ArgumentError, match="D >= 2"):
        deep_flow(regression, np.ones((1, 5)), 0.1, TIMES)
