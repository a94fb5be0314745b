"""The gradient flow of the factors and of the weight, integrated, and its closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.integrate import solve_ivp

from mirrormask.errors import ArgumentError
from mirrormask.geometry import Factors
from mirrormask.lab.potential import primal, scale_at
from mirrormask.lab.schedules import Array, Schedule

Gradient = Callable[[float, Array], Array]
"""Gradient of the loss at time t and weight x."""

Solver = Literal["DOP853", "LSODA", "Radau"]


@dataclass(frozen=True)
class FactorPath:
    """A path of the factors: times (T,), ``m`` and ``w`` of shape (T, n)."""

    t: Array
    m: Array
    w: Array

    @property
    def x(self) -> Array:
        """Return the weights ``m * w``."""
        return self.m * self.w

    @property
    def balance(self) -> Array:
        """Return ``m² - w²``, formed without squaring."""
        return (self.m - self.w) * (self.m + self.w)


def integrate(
    field: Callable[[float, Array], Array],
    start: Array,
    times: Array,
    *,
    solver: Solver,
    rtol: float,
    atol: float,
) -> Array:
    """Return the solution of ``dy = field(t, y) dt`` at ``times``, shape (T, size of y).

    Raises:
        ArgumentError: If ``times`` do not rise from 0, or the integrator fails.

    Example:
        >>> integrate(lambda t, y: -y, np.ones(1), np.array([1.0]), solver="DOP853", rtol=1e-9,
        ...           atol=1e-9).round(4)
        array([[0.3679]])
    """
    if times.ndim != 1 or len(times) < 1 or times[0] < 0 or np.any(np.diff(times) <= 0):
        raise ArgumentError(f"times={times} do not ascend from 0: use a rising 1-d array.")
    solved = solve_ivp(
        field, (0.0, float(times[-1])), start, solver, t_eval=times, rtol=rtol, atol=atol
    )
    if not solved.success:
        raise ArgumentError(f"The flow could not be integrated: {solved.message}")
    path: Array = solved.y.T
    return path


def factor_flow(
    gradient: Gradient,
    x0: Array,
    schedule: Schedule,
    times: Array,
    *,
    beta: float = 1.0,
    solver: Solver = "DOP853",
    rtol: float = 1e-12,
    atol: float = 1e-13,
) -> FactorPath:
    """Integrate ``dm = -(g w + 2 alpha m) dt``, ``dw = -(g m + 2 alpha w) dt``.

    The start and the field are those of :class:`mirrormask.geometry.Factors`, the code that
    trains.

    Args:
        gradient: Gradient of the loss on ``x``, as a function of time and weight.
        x0: Weights at the start, shape (n,).
        schedule: The strength alpha over time.
        times: Where to report, rising, shape (T,).
        beta: Balance at the start.
        solver: One of SciPy's integrators; "LSODA" or "Radau" where the flow is stiff.
        rtol: Relative tolerance of the integrator.
        atol: Absolute tolerance of the integrator.

    Returns:
        The path of both factors.

    Raises:
        ArgumentError: If ``times`` do not rise from 0, or the integrator fails.

    Example:
        >>> from mirrormask.lab.schedules import Constant
        >>> path = factor_flow(lambda t, x: x - 1.0, np.zeros(1), Constant(strength=0.0),
        ...                    np.array([10.0]))
        >>> path.x.round(6)
        array([[1.]])
    """
    geometry = Factors(beta=beta)
    start = geometry.split(torch.from_numpy(np.asarray(x0, dtype=np.float64)))
    n = len(x0)

    def field(t: float, y: Array) -> Array:
        latents = {"m": torch.from_numpy(y[:n]), "w": torch.from_numpy(y[n:])}
        x = geometry.compose(latents).numpy()
        pulled = geometry.pull_back(latents, torch.from_numpy(gradient(t, x)))
        moved: Array = torch.cat([pulled["m"], pulled["w"]]).numpy()
        return -moved - 2.0 * schedule.alpha(t) * y

    y0 = torch.cat([start["m"], start["w"]]).numpy()
    path = integrate(field, y0, times, solver=solver, rtol=rtol, atol=atol)
    return FactorPath(times, path[:, :n], path[:, n:])


def weight_flow(
    gradient: Gradient,
    x0: Array,
    schedule: Schedule,
    times: Array,
    *,
    beta: float = 1.0,
    solver: Solver = "DOP853",
    rtol: float = 1e-12,
    atol: float = 1e-13,
) -> Array:
    """Integrate ``dx = -2 sqrt(x² + a_t²) g dt - 4 alpha x dt``, the same path without factors.

    Args:
        gradient: Gradient of the loss on ``x``, as a function of time and weight.
        x0: Weights at the start, shape (n,).
        schedule: The strength alpha over time.
        times: Where to report, rising, shape (T,).
        beta: Balance at the start.
        solver: One of SciPy's integrators.
        rtol: Relative tolerance of the integrator.
        atol: Absolute tolerance of the integrator.

    Returns:
        The weights, shape (T, n).

    Raises:
        ArgumentError: If ``times`` do not rise from 0, or the integrator fails.

    Example:
        >>> from mirrormask.lab.schedules import Constant
        >>> weight_flow(lambda t, x: 0 * x, np.ones(1), Constant(strength=0.25),
        ...             np.array([1.0])).round(4)
        array([[0.3679]])
    """

    def field(t: float, x: Array) -> Array:
        metric: Array = 2.0 * np.hypot(x, scale_at(schedule.budget(t), beta))
        return -metric * gradient(t, x) - 4.0 * schedule.alpha(t) * x

    return integrate(
        field, np.asarray(x0, dtype=np.float64), times, solver=solver, rtol=rtol, atol=atol
    )


def dual_flow(
    gradient: Gradient,
    x0: Array,
    schedule: Schedule,
    times: Array,
    *,
    beta: float = 1.0,
    solver: Solver = "LSODA",
    rtol: float = 1e-12,
    atol: float = 1e-13,
) -> Array:
    """Integrate ``d theta = -2 g dt`` with ``x = a_t sinh(theta)``: stable for tiny scales.

    Args:
        gradient: Gradient of the loss on ``x``, as a function of time and weight.
        x0: Weights at the start, shape (n,).
        schedule: The strength alpha over time.
        times: Where to report, rising, shape (T,).
        beta: Balance at the start.
        solver: One of SciPy's integrators.
        rtol: Relative tolerance of the integrator.
        atol: Absolute tolerance of the integrator.

    Returns:
        The weights, shape (T, n).

    Raises:
        ArgumentError: If ``times`` do not rise from 0, or the integrator fails.

    Example:
        >>> from mirrormask.lab.schedules import Constant
        >>> dual_flow(lambda t, x: x - 1.0, np.zeros(1), Constant(strength=0.0),
        ...           np.array([10.0])).round(6)
        array([[1.]])
    """

    def weight(t: float, theta: Array) -> Array:
        return primal(theta, scale_at(schedule.budget(t), beta))

    def field(t: float, theta: Array) -> Array:
        return -2.0 * gradient(t, weight(t, theta))

    start: Array = np.arcsinh(2.0 * np.asarray(x0, dtype=np.float64) / beta)
    path = integrate(field, start, times, solver=solver, rtol=rtol, atol=atol)
    return np.stack([weight(float(t), theta) for t, theta in zip(times, path, strict=True)])


def closed_form(x0: Array, pull: Array, budget: float, beta: float = 1.0) -> Array:
    """Return ``a sinh(arcsinh(2 x0 / beta) - 2 G)``, where the flow is after a total pull ``G``.

    Args:
        x0: Weights at the start.
        pull: Integral of the gradient so far, shape of ``x0``.
        budget: Integral of alpha so far.
        beta: Balance at the start.

    Returns:
        The weights, shape of ``x0``.

    Example:
        >>> closed_form(np.array([1.0]), np.array([0.0]), 0.25).round(4)
        array([0.3679])
    """
    return primal(np.arcsinh(2.0 * x0 / beta) - 2.0 * pull, scale_at(budget, beta))


def flip_pull(x0: Array, beta: float = 1.0) -> Array:
    """Return the integral of the gradient at which a weight changes sign.

    Example:
        >>> flip_pull(np.array([0.5])).round(4)
        array([0.4407])
    """
    result: Array = 0.5 * np.arcsinh(2.0 * np.asarray(x0) / beta)
    return result
