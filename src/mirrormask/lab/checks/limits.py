"""Claims 7-14: the potential, the theorems on convergence and on the limit, and LASSO."""

from __future__ import annotations

import functools
import math

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.linear_model import Lasso

from mirrormask.lab.flow import Gradient, dual_flow, factor_flow
from mirrormask.lab.interpolation import basis_pursuit, least_potential
from mirrormask.lab.potential import gradient, potential, scale_at
from mirrormask.lab.problems import Problems, sparse_problems
from mirrormask.lab.regression import Run, descend
from mirrormask.lab.schedules import Array, Constant, Geometric, Schedule, total_budget

OFF = Constant(strength=0.0)


@functools.cache
def _problem() -> Problems:
    """Return one small problem: 12 samples, 30 weights, 3 nonzeros."""
    return sparse_problems(seeds=1, samples=12, features=30, nonzeros=3, start_size=0.3)


def _regression(z: Array, y: Array) -> Gradient:
    def field(t: float, x: Array) -> Array:
        pull: Array = z.T @ (z @ x - y)
        return pull

    return field


def limit_of_potential(*, offset: float = 1.0) -> float:
    """Return |ratio - 1| of R_a to its L1 limit at a = 1e-2, the lower-order term removed."""
    x, a = np.array([-3.0, -1.5, 1.0, 2.0, 5.0]), 1e-2
    size = np.abs(x)
    rest = 0.5 * np.sum(size * (np.log(2 * size) - offset))
    l1 = 0.5 * math.log(1 / a) * size.sum()
    return abs((float(potential(x, a)) - float(rest)) / float(l1) - 1.0)


def minimum_error(*, exponent: float = 4.0) -> float:
    """Return the distance of the minimum of R_a, found by line search, from x0 exp(-4 A)."""
    worst = 0.0
    for x0 in (-1.0, 0.3, 2.0):
        for budget in (0.2, 0.8):
            a = scale_at(budget)

            def height(x: float, a: float = a, x0: float = x0) -> float:
                return float(potential(np.array([x]), a, x0))

            # A minimum of values alone is known to the root of the precision.
            found = minimize_scalar(height, bracket=(-3.0, 3.0), tol=1e-10)
            worst = max(worst, abs(found.x - x0 * math.exp(-exponent * budget)))
    return worst


def lasso_error(*, weight: float = 2.0) -> float:
    """Return the distance of the flow at constant alpha from scikit-learn's Lasso.

    A difference in support counts as infinite.
    """
    rng = np.random.default_rng(5)
    samples, features, alpha = 30, 12, 3.0
    z = rng.normal(size=(samples, features))
    truth = np.where(np.arange(features) < 4, rng.normal(size=features) + 1.0, 0.0)
    y = z @ truth + 0.3 * rng.normal(size=samples)
    end = np.array([12.0])
    x = dual_flow(_regression(z, y), np.full(features, 0.1), Constant(strength=alpha), end)[0]
    lasso = Lasso(alpha=weight * alpha / samples, fit_intercept=False, tol=1e-15, max_iter=10**6)
    want = lasso.fit(z, y).coef_
    if not np.array_equal(np.abs(x) > 1e-9, want != 0):
        return math.inf
    return float(np.abs(x - want).max())


def kkt_residual(*, exponent: float = 4.0) -> float:
    """Return the largest part of grad R_a(x_t) outside the row span of Z, over time."""
    p = _problem()
    z, x0 = p.z[0], p.x0[0]
    schedule = Geometric(strength=0.5, ratio=0.5)
    times = np.array([0.05, 0.2, 0.5, 1.0, 2.0])
    path = factor_flow(_regression(z, p.y[0]), x0, schedule, times, rtol=1e-13, atol=1e-15)
    basis = np.linalg.svd(z)[2][len(z) :]
    worst = 0.0
    for x, t in zip(path.x, times, strict=True):
        a = 0.5 * math.exp(-exponent * schedule.budget(float(t)))
        worst = max(worst, float(np.abs(basis @ gradient(x, a, x0)).max()))
    return worst


@functools.cache
def _limit(schedule: Schedule, time: float) -> Array:
    p = _problem()
    field = _regression(p.z[0], p.y[0])
    path = dual_flow(field, p.x0[0], schedule, np.array([time]), rtol=1e-11, atol=1e-12)
    end: Array = path[0]
    return end


def limit_error(*, exponent: float = 4.0) -> float:
    """Return the distance of the end of the flow from argmin R_a on {Zx = Y}."""
    p = _problem()
    schedule = Geometric(strength=1.5, ratio=0.2)
    x = _limit(schedule, 300.0)
    a = 0.5 * math.exp(-exponent * total_budget(schedule))
    return float(np.abs(x - least_potential(p.z[0], p.y[0], a, x0=p.x0[0]).x).max())


def basis_pursuit_error(*, a: float = 1e-20) -> float:
    """Return the distance of argmin R_a from the linear program's answer, over three problems."""
    p = sparse_problems(seeds=3)
    return max(
        float(np.abs(least_potential(z, y, a).x - basis_pursuit(z, y)).max())
        for z, y in zip(p.z, p.y, strict=True)
    )


def rate_over_bound(*, constant: float = 2.0) -> float:
    """Return the least rate of the loss over ``2 a lambda``, where |grad f|² >= lambda (f - f*).

    The rows of Z are orthogonal and the weights stay below the scale, so the bound is nearly met.
    """
    rng = np.random.default_rng(2)
    z = 1.5 * np.linalg.qr(rng.normal(size=(20, 6)))[0].T
    y = 0.05 * rng.normal(size=6)
    times = np.linspace(0.05, 1.0, 10)
    x = dual_flow(_regression(z, y), np.zeros(20), OFF, times, beta=1.0)
    loss = 0.5 * np.square(x @ z.T - y).sum(axis=1)
    strength = 2.0 * float(np.linalg.eigvalsh(z @ z.T)[0])
    rate = -np.log(loss / (0.5 * y @ y)) / times
    return float((rate / (constant * scale_at(0.0) * strength)).min())


def loss_at_the_end(*, integrable: bool = True) -> float:
    """Return the loss after long flow under an integrable schedule, or a constant one."""
    p = _problem()
    schedule = Geometric(strength=1.5, ratio=0.2) if integrable else Constant(strength=0.2)
    x = _limit(schedule, 300.0) if integrable else _limit(schedule, 30.0)
    return float(0.5 * np.square(p.z[0] @ x - p.y[0]).sum())


@functools.cache
def _recovery() -> Array:
    """Return the mean error of descent for budgets 0, 0.5, 1, 2, 3, over five seeds."""
    steps, lr = 25_000, 1e-4
    runs = []
    for budget in (0.0, 0.5, 1.0, 2.0, 3.0):
        plain = Geometric(strength=1.0, unit=steps * lr / 100)
        spent = Geometric(strength=budget / plain.budget(steps * lr), unit=plain.unit)
        runs.append(Run(name=f"{budget:g}", schedule=spent))
    trace = descend(sparse_problems(), runs, steps=steps, lr=lr, records=1)
    mean: Array = trace.error[-1].mean(axis=0)
    return mean


def recovery_rise(*, backwards: bool = False) -> float:
    """Return the largest ratio of an error to the one at the next smaller budget."""
    errors = _recovery()[::-1] if backwards else _recovery()
    return float((errors[1:] / errors[:-1]).max())


def recovery_error(*, column: int = -1) -> float:
    """Return the mean error at budget 3, or at the budget of another column."""
    return float(_recovery()[column])
