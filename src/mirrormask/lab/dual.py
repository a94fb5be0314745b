"""Newton's method on the dual of ``min R_a``: one unknown a sample, however many features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from mirrormask.lab.potential import primal
from mirrormask.lab.schedules import Array

LONGEST_STEP = 2.0
"""Bound on a Newton step in theta: beyond it the exponential is nothing like its tangent."""

NEGLIGIBLE = 1e-14
"""Features whose share of the curvature is below this are left out of the Hessian."""

BLOCK = 8192
"""Features per block of the Hessian, so that memory stays bounded."""


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


def curvature(z: Array, h: Array) -> Array:
    """Return ``2 Z diag(h) Z.T`` over the features that matter, in blocks of bounded memory.

    Args:
        z: Measurements, shape (samples, features); fastest in Fortran order.
        h: Weights of the features, positive, shape (features,).

    Example:
        >>> curvature(np.array([[1.0, 2.0]]), np.array([3.0, 0.5]))
        array([[10.]])
    """
    keep = np.flatnonzero(h > NEGLIGIBLE * h.max())
    total = np.zeros((len(z), len(z)))
    by_feature = z.T
    for begin in range(0, len(keep), BLOCK):
        some = keep[begin : begin + BLOCK]
        root = by_feature[some] * np.sqrt(2.0 * h[some])[:, None]
        total += root.T @ root
    return total


def newton(
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
    """Minimise ``sum(a/2 cosh(2 Z.T dual + tilt)) + ridge/2 |dual|² - y dual`` from ``dual``.

    Args:
        z: Measurements, shape (samples, features).
        y: Targets, shape (samples,).
        a: Scale, positive.
        tilt: ``arcsinh(2 x0 / beta)``, shape (features,).
        dual: Where to begin, shape (samples,).
        ridge: Weight of the potential against half the squared error; 0 for interpolation.
        tol: Largest residual allowed.
        limit: Most steps.

    Returns:
        The solution, or the last iterate if ``limit`` came first.

    Example:
        >>> zeros = np.zeros(1)
        >>> newton(np.eye(1), np.ones(1), 0.5, tilt=zeros, dual=zeros, ridge=0.0, tol=1e-12,
        ...        limit=50).x.round(9)
        array([1.])
    """
    theta = 2.0 * (z.T @ dual) + tilt
    x = primal(theta, a)
    rest = y - z @ x - ridge * dual
    for step in range(limit):
        size = float(np.abs(rest).max())
        if size <= tol:
            return Interpolator(x, dual, size, step)
        matrix = curvature(z, np.hypot(x, a))
        matrix[np.diag_indices_from(matrix)] += ridge
        move = _solve(matrix, rest)
        turn = 2.0 * (z.T @ move)
        pace = min(1.0, LONGEST_STEP / max(float(np.abs(turn).max()), 1e-300))
        slope = float(rest @ move)
        # The dual is convex: a step is short enough while the slope has not turned much.
        for _ in range(40):
            x_next = primal(theta + pace * turn, a)
            rest_next = y - z @ x_next - ridge * (dual + pace * move)
            if float(rest_next @ move) >= -0.5 * abs(slope):
                break
            pace *= 0.5
        dual, theta, x, rest = dual + pace * move, theta + pace * turn, x_next, rest_next
    return Interpolator(x, dual, float(np.abs(rest).max()), limit)


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
