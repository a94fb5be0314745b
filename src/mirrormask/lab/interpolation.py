"""The least R_a among the exact solutions of ``Z x = Y``, and its limit, basis pursuit.

Independent of every flow. For the penalised problem ``1/2 ||Z x - Y||² + ridge * R_a(x)`` the
same dual gains ``ridge`` on its diagonal.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import linprog

from mirrormask.errors import ArgumentError
from mirrormask.lab.dual import Interpolator, newton
from mirrormask.lab.potential import check_scale
from mirrormask.lab.schedules import Array

DEPENDENT = 1e-13
"""Share of the largest eigenvalue of Z Z.T below which a direction counts as dependent."""


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


def independent_rows(z: Array, y: Array) -> tuple[Array, Array, float]:
    """Return a system with independent rows and the same least-squares solutions.

    Args:
        z: Measurements, shape (samples, features).
        y: Targets, shape (samples,).

    Returns:
        The new ``z`` and ``y``, with rank-of-z rows, and the norm of the part of ``y`` that no
        ``x`` reaches.

    Example:
        >>> z, y, left = independent_rows(np.ones((2, 3)), np.array([1.0, 3.0]))
        >>> z.shape, round(left, 6)  # the mean is reached, ±1 is not
        ((1, 3), 1.414214)
    """
    whole = float(y @ y)
    if z.shape[0] > z.shape[1]:
        q, z = np.linalg.qr(z)
        y = q.T @ y
    values, vectors = np.linalg.eigh(z @ z.T)
    good = values > DEPENDENT * max(float(values[-1]), 1e-300)
    if not good.all():
        # Fortran order: the dual reads the system by features.
        basis = vectors[:, good].T
        z, y = (z.T @ basis.T).T, basis @ y
    return z, y, math.sqrt(max(whole - float(y @ y), 0.0))


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
    if ridge == 0:
        samples = len(y)
        size = float(np.linalg.norm(y))
        z, y, left = independent_rows(z, y)
        if left > 1e-6 * size:
            raise ArgumentError(
                f"No x solves Z x = Y ({samples} samples, {z.shape[1]} features): the system is "
                f"inconsistent by {left:.2e}, so give a ridge > 0, or fit a MirrorRegressor, which "
                "takes the least-squares solutions."
            )
    start = np.zeros(z.shape[1]) if x0 is None else np.asarray(x0, dtype=np.float64)
    return descend_scales(
        z, y, a, tilt=np.arcsinh(2.0 * start / beta), ridge=ridge, tol=tol, limit=limit
    )


def descend_scales(
    z: Array, y: Array, a: float, *, tilt: Array, ridge: float, tol: float, limit: int
) -> Interpolator:
    """Solve the dual at ever smaller scales down to ``a``; the rows must be independent.

    Args:
        z: Measurements with independent rows, shape (samples, features).
        y: Targets, shape (samples,).
        a: The last scale.
        tilt: ``arcsinh(2 x0 / beta)``, shape (features,).
        ridge: Weight of the potential.
        tol: Largest residual allowed, relative to the largest target.
        limit: Most Newton steps in all.

    Raises:
        ArgumentError: If ``limit`` steps were not enough.
    """
    unit = max(float(np.abs(y).max(initial=0.0)), 1e-300)
    dual, steps, scale = np.zeros(len(y)), 0, max(a, unit)
    while True:
        last = scale <= a
        # Between scales a rough answer is enough to stay where Newton's method is quick.
        aim = tol * unit if last else 1e-3 * unit
        found = newton(z, y, scale, tilt=tilt, dual=dual, ridge=ridge, tol=aim, limit=limit - steps)
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
