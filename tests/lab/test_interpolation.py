"""The dual solver against optimality, SciPy's optimizers, least squares, linear programs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, minimize

from mirrormask.errors import ArgumentError
from mirrormask.lab.interpolation import basis_pursuit, independent_rows, least_potential
from mirrormask.lab.potential import gradient, potential
from mirrormask.lab.problems import sparse_problems


def system(seed: int, samples: int, features: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(samples, features))
    return z, z @ rng.normal(size=features), 0.3 * rng.normal(size=features)


@given(
    seed=st.integers(0, 50),
    samples=st.integers(1, 8),
    more=st.integers(0, 30),
    log_a=st.floats(-16, 3),
    start_size=st.sampled_from([0.0, 1.0]),
)
def test_solution_is_feasible_and_its_gradient_is_in_the_row_span(
    seed: int, samples: int, more: int, log_a: float, start_size: float
) -> None:
    z, y, x0 = system(seed, samples, samples + more)
    a, x0 = 10.0**log_a, start_size * x0
    found = least_potential(z, y, a, x0=x0)
    np.testing.assert_allclose(z @ found.x, y, atol=1e-9 * np.abs(y).max())
    slope = gradient(found.x, a, x0)
    null = np.linalg.svd(z)[2][samples:]
    # arcsinh(x / a) carries the rounding of x, magnified where x is small beside its terms.
    assert np.abs(null @ slope).max(initial=0.0) < 1e-8


@given(seed=st.integers(0, 20), log_a=st.floats(-2, 1), log_ridge=st.floats(-3, 1))
def test_penalised_solution_minimises_its_objective(
    seed: int, log_a: float, log_ridge: float
) -> None:
    z, y, x0 = system(seed, 5, 12)
    a, ridge = 10.0**log_a, 10.0**log_ridge

    def objective(x: np.ndarray) -> float:
        return float(0.5 * np.square(z @ x - y).sum() + ridge * potential(x, a, x0))

    found = least_potential(z, y, a, x0=x0, ridge=ridge).x
    slope = z.T @ (z @ found - y) + ridge * gradient(found, a, x0)
    assert np.abs(slope).max() < 1e-7
    best = objective(found)
    rng = np.random.default_rng(seed)
    for size in (1e-3, 1e-1):
        assert all(objective(found + size * rng.normal(size=12)) > best for _ in range(20))


def test_agrees_with_a_general_optimizer() -> None:
    z, y, x0 = system(3, 4, 9)
    for a in (0.5, 0.05):
        general = minimize(
            lambda x, a=a: float(potential(x, a, x0)),
            np.linalg.lstsq(z, y, rcond=None)[0],
            jac=lambda x, a=a: gradient(x, a, x0),
            constraints=LinearConstraint(z, y, y),
            method="trust-constr",
            options={"gtol": 1e-12, "xtol": 1e-14, "maxiter": 5000},
        )
        np.testing.assert_allclose(least_potential(z, y, a, x0=x0).x, general.x, atol=1e-5)


def test_large_scale_is_least_norm_and_small_scale_basis_pursuit() -> None:
    z, y, _ = system(1, 6, 15)
    norm = np.linalg.lstsq(z, y, rcond=None)[0]
    np.testing.assert_allclose(least_potential(z, y, 1e6).x, norm, atol=1e-9)
    sparse = sparse_problems(seeds=1)
    z, y = sparse.z[0], sparse.y[0]
    np.testing.assert_allclose(least_potential(z, y, 1e-30).x, basis_pursuit(z, y), atol=1e-8)
    np.testing.assert_allclose(basis_pursuit(z, y), sparse.truth[0], atol=1e-8)


def test_l1_norm_falls_towards_basis_pursuit_along_the_scales() -> None:
    z, y, _ = system(2, 6, 20)
    norms = [np.abs(least_potential(z, y, a).x).sum() for a in (1.0, 1e-1, 1e-2, 1e-4, 1e-8)]
    assert (np.diff(norms) < 0).all()
    assert norms[-1] >= np.abs(basis_pursuit(z, y)).sum() - 1e-9


def test_rows_that_repeat_change_nothing() -> None:
    z, y, _ = system(4, 4, 9)
    twice = least_potential(np.vstack([z, z[:2], z.sum(0)]), np.append(y, [*y[:2], y.sum()]), 0.01)
    np.testing.assert_allclose(twice.x, least_potential(z, y, 0.01).x, atol=1e-9)
    reduced, _, left = independent_rows(np.vstack([z, z]), np.append(y, y))
    assert reduced.shape == (4, 9) and left < 1e-6


def test_more_samples_than_features_has_one_answer() -> None:
    rng = np.random.default_rng(0)
    z, truth = rng.normal(size=(30, 5)), rng.normal(size=5)
    for a in (1.0, 1e-6):
        np.testing.assert_allclose(least_potential(z, z @ truth, a).x, truth, atol=1e-9)


def test_bad_systems_are_refused_with_a_way_out() -> None:
    z, y, _ = system(0, 3, 6)
    with pytest.raises(ArgumentError, match="inconsistent"):
        least_potential(np.vstack([z, z[0]]), np.append(y, y[0] + 1), 0.1)
    with pytest.raises(ArgumentError, match="inconsistent"):
        least_potential(z.T, np.arange(6.0), 0.1)
    with pytest.raises(ArgumentError, match="NaN"):
        least_potential(np.where(z > 0, np.nan, z), y, 0.1)
    with pytest.raises(ArgumentError, match=r"a=0\.0"):
        least_potential(z, y, 0.0)
    with pytest.raises(ArgumentError, match=r"ridge=-1\.0"):
        least_potential(z, y, 0.1, ridge=-1.0)
    with pytest.raises(ArgumentError, match="make no system"):
        least_potential(z, y[:2], 0.1)
    with pytest.raises(ArgumentError, match="after 3 steps"):
        least_potential(z, y, 1e-12, limit=3)
    with pytest.raises(ArgumentError, match="No basis pursuit"):
        basis_pursuit(np.vstack([z, z[0]]), np.append(y, y[0] + 1))
