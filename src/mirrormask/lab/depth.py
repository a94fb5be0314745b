"""Deep factors and gated groups: their flow, and the imbalance that decay wears off."""

from __future__ import annotations

import numpy as np

from mirrormask.errors import ArgumentError
from mirrormask.lab.flow import Gradient, integrate
from mirrormask.lab.schedules import Array


def deep_flow(
    gradient: Gradient, factors: Array, strength: float, times: Array, *, rtol: float = 1e-12
) -> Array:
    """Integrate the flow of ``x = prod_i v_i`` under the penalty ``strength / D * sum |v_i|²``.

    Source: deep weight factorisation (Kolb et al., ICLR 2025): the penalty is equivalent to
    ``strength * |x|_{2/D}^{2/D}``, and differences of squares decay as exp(-4 strength t / D).

    Args:
        gradient: Gradient of the loss on ``x``, as a function of time and weight.
        factors: The factors at the start, shape (D, n), D >= 2.
        strength: Weight of the penalty.
        times: Where to report, rising, shape (T,).
        rtol: Relative tolerance of the integrator.

    Returns:
        The factors, shape (T, D, n).

    Raises:
        ArgumentError: If there are fewer than two factors.

    Example:
        >>> start = np.array([[1.0], [0.5], [0.5]])
        >>> path = deep_flow(lambda t, x: x - 1.0, start, 0.0, np.array([30.0]))
        >>> path.prod(axis=1).round(6)
        array([[1.]])
    """
    if factors.ndim != 2 or len(factors) < 2:
        raise ArgumentError(f"factors of shape {factors.shape}: use (D, n) with D >= 2.")
    depth = len(factors)

    def field(t: float, y: Array) -> Array:
        v = y.reshape(factors.shape)
        grad = gradient(t, v.prod(axis=0))
        others = np.stack([np.delete(v, i, axis=0).prod(axis=0) for i in range(depth)])
        moved: Array = -grad * others - 2.0 * strength / depth * v
        return moved.ravel()

    path = integrate(field, factors.ravel(), times, solver="DOP853", rtol=rtol, atol=1e-14)
    return path.reshape(len(times), *factors.shape)


def gated_flow(
    gradient: Gradient,
    group: Array,
    gates: Array,
    strength: float,
    times: Array,
    *,
    rtol: float = 1e-12,
) -> tuple[Array, Array]:
    """Integrate ``x = v * prod(gates)`` for one group under ``strength / D (|v|² + |gates|²)``.

    The structured sibling of :func:`deep_flow` (D-Gating): ``|v|²`` stands where one factor did.

    Args:
        gradient: Gradient of the loss on ``x``, as a function of time and weight.
        group: The weights ``v`` of the group, shape (n,).
        gates: Scalar gates, shape (D - 1,).
        strength: Weight of the penalty.
        times: Where to report, rising, shape (T,).
        rtol: Relative tolerance of the integrator.

    Returns:
        The group, shape (T, n), and the gates, shape (T, D - 1).

    Example:
        >>> v, gates = gated_flow(lambda t, x: x - 1.0, np.array([1.0, 0.2]), np.array([0.9]), 0.0,
        ...                       np.array([40.0]))
        >>> (v * gates).round(6)
        array([[1., 1.]])
    """
    n, depth = len(group), len(gates) + 1

    def field(t: float, y: Array) -> Array:
        v, s = y[:n], y[n:]
        grad = gradient(t, v * s.prod())
        others = np.array([np.delete(s, i).prod() for i in range(len(s))])
        moved = np.concatenate([grad * s.prod(), (grad @ v) * others])
        return -moved - 2.0 * strength / depth * y

    start = np.concatenate([group, gates])
    path = integrate(field, start, times, solver="DOP853", rtol=rtol, atol=1e-14)
    return path[:, :n], path[:, n:]
