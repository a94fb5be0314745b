"""The time-dependent potential R_a: gradient, Hessian, inverse map, Bregman divergence.

``R_a(x) = 1/2 sum[x arcsinh(x/a) - sqrt(x² + a²) - x arcsinh(2 x0 / beta)]`` is the mirror map of
``x = m * w`` when the scale is ``a = beta/2 * exp(-4 A)``. All functions take arrays of any shape
in float64 and a positive scale ``a`` (a number or an array that broadcasts).

Source: Jacobs & Burkholz (ICLR 2025), with one convention for the constants throughout.
"""

from __future__ import annotations

import math

import numpy as np

from mirrormask.errors import ArgumentError
from mirrormask.lab.schedules import Array


def check_scale(a: float) -> float:
    """Return ``a``, or say how a scale must be.

    Raises:
        ArgumentError: If ``a`` is not positive and finite.

    Example:
        >>> check_scale(0.5)
        0.5
    """
    if not (math.isfinite(a) and a > 0):
        raise ArgumentError(f"a={a} is not a scale: use a finite number > 0, such as 0.5.")
    return a


def scale_at(budget: float, beta: float = 1.0) -> float:
    """Return the scale ``a = beta/2 * exp(-4 * budget)``.

    Example:
        >>> scale_at(0.0), round(scale_at(1.55), 5)
        (0.5, 0.00101)
    """
    return check_scale(0.5 * beta * math.exp(-4.0 * budget))


def primal(theta: Array, a: float) -> Array:
    """Return ``a * sinh(theta)`` without overflow for large ``theta`` and tiny ``a``.

    Example:
        >>> primal(np.array([0.0, 750.0]), 1e-300)
        array([0.00000000e+00, 2.62924727e+25])
    """
    # sinh overflows at 710 although a * sinh may be of order one.
    size = np.abs(theta)
    large = 0.5 * np.sign(theta) * np.exp(size + math.log(a))
    direct: Array = a * np.sinh(np.clip(theta, -300.0, 300.0))
    return np.where(size < 300.0, direct, large)


def dual(x: Array, a: float) -> Array:
    """Return ``arcsinh(x / a)``, the coordinate in which the flow is additive.

    Example:
        >>> dual(np.array([0.0, 0.5]), 0.5).round(4)
        array([0.    , 0.8814])
    """
    result: Array = np.arcsinh(x / a)
    return result


def potential(x: Array, a: float, x0: Array | float = 0.0, beta: float = 1.0) -> Array:
    """Return ``R_a`` summed over the last axis.

    Args:
        x: Weights, shape (..., n).
        a: Scale, positive.
        x0: Weights at the start.
        beta: Balance at the start.

    Returns:
        The potential, shape (...).

    Example:
        >>> potential(np.array([0.0, 0.0]), 0.5)
        np.float64(-0.5)
    """
    tilt = np.arcsinh(2.0 * np.asarray(x0) / beta)
    result: Array = 0.5 * np.sum(x * dual(x, a) - np.hypot(x, a) - x * tilt, axis=-1)
    return result


def gradient(x: Array, a: float, x0: Array | float = 0.0, beta: float = 1.0) -> Array:
    """Return the gradient ``(arcsinh(x/a) - arcsinh(2 x0 / beta)) / 2``.

    Example:
        >>> gradient(np.array([0.3]), 0.5, x0=0.3)  # zero at the start
        array([0.])
    """
    result: Array = 0.5 * (dual(x, a) - np.arcsinh(2.0 * np.asarray(x0) / beta))
    return result


def hessian(x: Array, a: float) -> Array:
    """Return the diagonal of the Hessian, ``1 / (2 sqrt(x² + a²))``.

    Example:
        >>> hessian(np.array([0.0]), 0.5)
        array([1.])
    """
    result: Array = 0.5 / np.hypot(x, a)
    return result


def inverse_gradient(p: Array, a: float, x0: Array | float = 0.0, beta: float = 1.0) -> Array:
    """Return the ``x`` at which :func:`gradient` is ``p``.

    Example:
        >>> x = np.array([-2.0, 1e-9, 0.3])
        >>> bool(np.allclose(inverse_gradient(gradient(x, 1e-3), 1e-3), x, rtol=1e-12))
        True
    """
    return primal(2.0 * p + np.arcsinh(2.0 * np.asarray(x0) / beta), a)


def bregman(x: Array, y: Array, a: float) -> Array:
    """Return the divergence ``R_a(x) - R_a(y) - <grad R_a(y), x - y>``, never negative.

    Example:
        >>> round(float(bregman(np.array([0.1]), np.array([0.0]), 100.0)), 8)  # x² / (4 a)
        2.5e-05
    """
    # The linear parts cancel, and hypot differences are written so that they do not lose digits.
    tilt = dual(x, a) - dual(y, a)
    drop = (y - x) * (y + x) / (np.hypot(x, a) + np.hypot(y, a))
    result: Array = 0.5 * np.sum(x * tilt + drop, axis=-1)
    return result


def time_derivative(x: Array, a: float, alpha: float) -> Array:
    """Return the rate of ``R_{a_t}(x)`` at fixed ``x``: ``2 alpha sum sqrt(x² + a²)``.

    Example:
        >>> float(time_derivative(np.array([0.0]), 0.5, 0.1))
        0.1
    """
    result: Array = 2.0 * alpha * np.sum(np.hypot(x, a), axis=-1)
    return result


def minimiser(x0: Array, budget: float) -> Array:
    """Return the minimum of ``R_a``, ``x0 * exp(-4 * budget)``: it moves to zero.

    Example:
        >>> minimiser(np.array([1.0]), 0.25).round(4)
        array([0.3679])
    """
    return x0 * math.exp(-4.0 * budget)


def effective_exponent(x: Array, a: float) -> Array:
    """Return ``d log(R_a(x) - R_a(0)) / d log x``: 2 where |x| << a (L2), near 1 where |x| >> a.

    Args:
        x: Weights, shape (..., n).
        a: Scale, positive.

    Returns:
        The exponent of the whole sum over the last axis, shape (...); 2 where all are zero.

    Example:
        >>> effective_exponent(np.array([[1e-6], [1e6]]), 1.0).round(3)
        array([2.   , 1.074])
    """
    rise = np.sum(np.abs(x) * dual(np.abs(x), a), axis=-1)
    level = 2.0 * bregman(x, np.zeros_like(x), a)
    return np.where(level > 0, rise / np.where(level > 0, level, 1.0), 2.0)
