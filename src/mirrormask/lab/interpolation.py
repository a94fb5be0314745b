"""The least R_a among the exact solutions of ``Z x = Y``, and its limit, basis pursuit.

Independent of every flow: Newton's method on the dual, one unknown a sample. For the penalised
problem ``1/2 ||Z x - Y||² + ridge * R_a(x)`` the same dual gains ``ridge`` on its diagonal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import linprog

from mirrormask.errors import ArgumentError
from mirrormask.lab.potential import check_scale, primal
from mirrormask.lab.schedules import Array

LONGEST_STEP = 2.0
"""Bound on a Newton step in theta: beyond it the exponential is nothing like its tangent."""

NEGLIGIBLE = 1e-14
"""Features whose share of the curvature is below this are left out of the Hessian."""


@dataclass(frozen=True)
class Interpolator:
    """A solution of the dual.

    Attributes:
        x: Weights, shape (features,).
        dual: Multipliers, shape (samples,); ``grad R_a(x) = Z.T @ dual``.
        residual: Largest ``|Z x + ridge * dual - Y|``.
        steps: Newton steps taken, over all scales.
    """

    x: Array
    dual: Array
    residual: float
    steps: int


def _curvature(z: Array, h: Array) -> Array:
    """Return ``2 Z diag(h) Z.T`` over the features that matter, in blocks of bounded memory."""
    keep = np.flatnonzero(h > NEGLIGIBLE * h.max())
    total = np.zeros((len(z), len(z)))
    for begin in range(0, len(keep), 8192):
        some = keep[begin : begin + 8192]
        root = z[:, some] * np.sqrt(2.0 * h[some])
        total += root @ root.T
    return total


def _solve(matrix: Array, right: Array) -> Array:
    """Solve a positive semi-definite system, lifting its diagonal as little as it takes."""
    lift, diagonal = 0.0, np.diag_indices_from(matrix)
    unit = float(np.trace(matrix)) / len(matrix)
    while True:
        lifted = matrix.copy()
        lifted[diagonal] += lift
        try:
            solution: Array = cho_solve(cho_factor(lifted, check_finite=False), right)
        except np.linalg.LinAlgError:
            solution = np.full_like(right, np.nan)
        if np.all(np.isfinite(solution)):
            return solution
        lift = max(10.0 * lift, 1e-15 * unit)


def _newton(
    z: Array,
    y: Array,
    a: float,
    *,
    tilt: Array,
    dual: Array,
    ridge: float,
    tol: float,
    limit: int,
) -> Interpolator:
    """Minimise ``sum(a/2 cosh(2 Z.T dual + tilt)) + ridge/2 |dual|² - y dual``, damped."""
    theta = 2.0 * (z.T @ dual) + tilt
    x = primal(theta, a)
    rest = y - z @ x - ridge * dual
    for step in range(limit):
        size = float(np.abs(rest).max())
        if size <= tol:
            return Interpolator(x, dual, size, step)
        matrix = _curvature(z, np.hypot(x, a))
        matrix[np.diag_indices_from(matrix)] += ridge
        move = _solve(matrix, rest)
        turn = 2.0 * (z.T @ move)
        pace = min(1.0, LONGEST_STEP / max(float(np.abs(turn).max()), 1e-300))
        slope = float(rest @ move)
        # The dual is convex: a step is long enough while the slope along it has not turned much.
        for _ in range(40):
            x_next = primal(theta + pace * turn, a)
            rest_next = y - z @ x_next - ridge * (dual + pace * move)
            if float(rest_next @ move) >= -0.5 * abs(slope):
                break
            pace *= 0.5
        dual, theta, x, rest = dual + pace * move, theta + pace * turn, x_next, rest_next
    return Interpolator(x, dual, float(np.abs(rest).max()), limit)


def check_system(z: Array, y: Array) -> tuple[Array, Array]:
    """Return ``z`` and ``y`` as float64, or say what is wrong with them.

    Raises:
        ArgumentError: If shapes do not fit, or a number is not finite.

    Example:
        >>> check_system(np.ones((2, 3)), np.ones(2))[0].shape
        (2, 3)
    """
    z, y = np.asarray(z, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if z.ndim != 2 or y.shape != z.shape[:1] or 0 in z.shape:
        raise ArgumentError(
            f"z of shape {z.shape} and y of shape {y.shape} make no system: use (samples, "
            "features) and (samples,), neither empty."
        )
    if not (np.isfinite(z).all() and np.isfinite(y).all()):
        raise ArgumentError("z or y holds NaN or infinity: clean or impute the data first.")
    return z, y


def least_potential(
    z: Array,
    y: Array,
    a: float,
    *,
    x0: Array | None = None,
    beta: float = 1.0,
    ridge: float = 0.0,
    tol: float = 1e-11,
    limit: int = 1000,
) -> Interpolator:
    """Return the minimiser of ``R_a`` on ``{Z x = Y}``, or of its penalised form.

    This is where the flow of a convex loss ends, if the scale ends at ``a``. Small scales are
    reached from large ones in steps, each solution the start of the next.

    Args:
        z: Measurements, shape (samples, features).
        y: Targets, shape (samples,).
        a: Scale of the potential, positive.
        x0: Weights at the start of the flow, shape (features,); zeros if not given.
        beta: Balance at the start of the flow.
        ridge: Weight of ``R_a`` against ``1/2 ||Z x - Y||²``; 0 asks for an exact solution.
        tol: Largest residual allowed, relative to the largest target.
        limit: Most Newton steps in all.

    Returns:
        The weights, the dual and the residual.

    Raises:
        ArgumentError: If the system has no solution, the scale or ridge is out of range, or
            Newton's method did not converge within ``limit`` steps.

    Example:
        >>> z = np.array([[1.0, 2.0]])
        >>> least_potential(z, np.array([2.0]), 1e4).x.round(4)  # least squares: Z.T Y / |Z|²
        array([0.4, 0.8])
        >>> least_potential(z, np.array([2.0]), 1e-9).x.round(4)  # basis pursuit
        array([0., 1.])
    """
    z, y = check_system(z, y)
    check_scale(a)
    if not (math.isfinite(ridge) and ridge >= 0):
        raise ArgumentError(f"ridge={ridge} is not a penalty: use a finite number >= 0.")
    start = np.zeros(z.shape[1]) if x0 is None else np.asarray(x0, dtype=np.float64)
    tilt = np.arcsinh(2.0 * start / beta)
    rest = y - z @ primal(tilt, a)
    if ridge == 0:
        fit, *_ = np.linalg.lstsq(z, rest, rcond=None)
        if np.abs(z @ fit - rest).max() > 1e-8 * max(float(np.abs(y).max()), 1e-300):
            raise ArgumentError(
                f"No x solves Z x = Y ({z.shape[0]} samples, {z.shape[1]} features): the system "
                "is inconsistent, so give a ridge > 0, or project Y on the columns of Z."
            )
    unit = max(float(np.abs(y).max()), 1e-300)
    dual, steps, scale = np.zeros(len(y)), 0, max(a, unit)
    while True:
        last = scale <= a
        # Between scales a rough answer is enough to stay where Newton's method is quick.
        aim = tol * unit if last else 1e-3 * unit
        found = _newton(
            z, y, scale, tilt=tilt, dual=dual, ridge=ridge, tol=aim, limit=limit - steps
        )
        steps += found.steps
        if last or steps >= limit:
            break
        following = max(a, 0.1 * scale)
        # At a fixed x, theta = arcsinh(x / a) grows like log(1 / a).
        top = max(float(np.abs(found.x).max()), 1e-300)
        dual = found.dual * float(np.arcsinh(top / following) / np.arcsinh(top / scale))
        scale = following
    if found.residual > tol * unit or not last:
        raise ArgumentError(
            f"Newton's method stopped at a residual of {found.residual:.1e} after {limit} steps: "
            f"raise limit or tol={tol}, or use a scale larger than a={a}."
        )
    return Interpolator(found.x, found.dual, found.residual, steps)


def basis_pursuit(z: Array, y: Array) -> Array:
    """Return the solution of ``Z x = Y`` with least ``||x||_1``, by linear programming.

    Args:
        z: Measurements, shape (samples, features).
        y: Targets, shape (samples,).

    Returns:
        The weights, shape (features,).

    Raises:
        ArgumentError: If the system has no solution.

    Example:
        >>> basis_pursuit(np.array([[1.0, 2.0]]), np.array([2.0]))
        array([0., 1.])
    """
    z, y = check_system(z, y)
    n = z.shape[1]
    found = linprog(np.ones(2 * n), A_eq=np.hstack([z, -z]), b_eq=y, bounds=(0, None))
    if not found.success:
        raise ArgumentError(f"No basis pursuit solution: {found.message}")
    x: Array = found.x[:n] - found.x[n:]
    return x
