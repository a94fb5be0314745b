"""Claims 1-6 and 15-19: the start, the flow of the factors, discrete steps, what is conserved."""

from __future__ import annotations

import decimal
import itertools
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mirrormask.geometry import Factors, Geometry, Mirror
from mirrormask.lab.discrete import balance_of, flip_pulls, run_steps, take_step
from mirrormask.lab.flow import FactorPath, factor_flow, flip_pull
from mirrormask.lab.potential import primal
from mirrormask.lab.schedules import Array, Geometric

SCHEDULE = Geometric(strength=0.3, ratio=0.5)
TIMES = np.linspace(0.1, 3.0, 8)
X0 = np.array([-4.0, -0.3, -1e-3, 0.0, 0.05, 0.7, 2.5])


def _push(t: float) -> Array:
    k = np.arange(len(X0), dtype=np.float64)
    push: Array = 0.6 * np.sin(1.3 * t + k) + 0.1 * (k - 2.5)
    return push


def _pushed(t: float) -> Array:
    k = np.arange(len(X0), dtype=np.float64)
    pull: Array = 0.6 / 1.3 * (np.cos(k) - np.cos(1.3 * t + k)) + 0.1 * (k - 2.5) * t
    return pull


def _path(beta: float) -> FactorPath:
    return factor_flow(lambda t, x: _push(t), X0, SCHEDULE, TIMES, beta=beta, atol=1e-14)


def start_error(*, share: float = 1.0) -> float:
    """Return the largest error of m0, w0 and m0 * w0 in units in the last place."""
    worst = 0.0
    sizes = [s * 10.0**e for s in (-1, 1) for e in np.linspace(-12, 3, 16)]
    with decimal.localcontext(prec=60):
        dtypes: tuple[type[np.floating[Any]], ...] = (np.float32, np.float64)
        for dtype, size, power in itertools.product(dtypes, sizes, np.linspace(-6, 1, 8)):
            beta, x = float(dtype(10.0**power)), dtype(size)
            latents = Factors(beta=beta).split(torch.tensor(x))
            exact, b = Decimal(float(x)), Decimal(beta) * Decimal(share)
            m0 = (((4 * exact**2 + b**2).sqrt() + b) / 2).sqrt()
            product = Factors().compose(latents).item()
            for got, want in (
                (latents["m"].item(), m0),
                (latents["w"].item(), exact / m0),
                (product, exact),
            ):
                ulp = Decimal(float(np.spacing(dtype(abs(float(want))))))
                worst = max(worst, float(abs(Decimal(got) - want) / ulp))
    return worst


def balance_error(*, exponent: float = 4.0) -> float:
    """Return the largest deviation of m² - w² from beta exp(-4 A) along the flow."""
    spent = np.array([SCHEDULE.budget(float(t)) for t in TIMES])
    return max(
        float(np.abs(_path(beta).balance - beta * np.exp(-exponent * spent)[:, None]).max())
        for beta in (0.1, 1.0, 3.0)
    )


def step_law_error(*, noise: float = 1.0) -> float:
    """Return the largest relative deviation from the law of 200 noisy steps."""
    rng = torch.Generator().manual_seed(11)
    lr, alpha = 0.05, 0.1
    grads = torch.randn(200, 50, dtype=torch.float64, generator=rng)
    x0 = 0.3 * torch.randn(50, dtype=torch.float64, generator=rng)
    latents = run_steps(Factors(beta=1.0), x0, grads, lr, alpha)
    law = ((1 - 2 * lr * alpha) ** 2 - noise * (lr * grads) ** 2).prod(dim=0)
    return (balance_of(latents) / law - 1).abs().max().item()


def closed_form_error(*, exponent: float = 4.0, pull: float = 2.0) -> float:
    """Return the largest deviation of the flow from ``a sinh(arcsinh(2 x0/beta) - 2 G)``."""
    worst = 0.0
    for beta in (0.1, 1.0, 3.0):
        x = _path(beta).x
        for row, t in zip(x, TIMES, strict=True):
            a = 0.5 * beta * math.exp(-exponent * SCHEDULE.budget(float(t)))
            want = primal(np.arcsinh(2 * X0 / beta) - pull * _pushed(float(t)), a)
            worst = max(worst, float(np.abs(row - want).max() / (np.abs(row).max())))
    return worst


def metric_error(*, metric: float = 2.0) -> float:
    """Return the largest relative error of dx/dt against a central difference."""
    geometry, alpha, h, beta = Factors(beta=1.0), 0.2, 1e-6, 1.0
    x, grad = torch.from_numpy(X0), torch.from_numpy(_push(0.3))
    ends = []
    for step in (-h, h):
        latents = geometry.split(x)
        take_step(geometry, latents, grad, step, alpha)
        ends.append(geometry.compose(latents))
    rate = (ends[1] - ends[0]) / (2 * h)
    want = -metric * torch.sqrt(x**2 + (beta / 2) ** 2) * grad - 4 * alpha * x
    return ((rate - want) / want).abs().max().item()


def flip_error(*, share: float = 0.5) -> float:
    """Return the largest relative error of the pull at which a sign flips."""
    x0 = np.array([0.2, 0.5, 1.0, 2.0])
    worst = 0.0
    for beta in (0.1, 1.0):
        seen = flip_pulls(torch.from_numpy(x0), beta=beta, lr=2e-4, steps=12_000).numpy()
        worst = max(worst, float(np.abs(seen / (2 * share * flip_pull(x0, beta)) - 1).max()))
    return worst


def flips_without_balance(*, beta: float = 0.0) -> float:
    """Return how many signs flip under a lasting pull from a start of this balance."""
    x0 = torch.tensor([0.01, 0.4, 2.0], dtype=torch.float64)
    return float((~flip_pulls(x0, beta=beta, lr=1e-3, steps=8_000).isnan()).sum())


def equal_factors_apart(*, difference: float = 0.0) -> float:
    """Return how many pairs of equal factors differ after 300 noisy steps."""
    rng = torch.Generator().manual_seed(3)
    m = torch.rand(40, dtype=torch.float64, generator=rng)
    latents = {"m": m.clone(), "w": m + difference}
    for _ in range(300):
        grad = torch.randn(40, dtype=torch.float64, generator=rng)
        take_step(Factors(), latents, grad, 0.05, 0.01)
    return float((latents["m"] != latents["w"]).sum())


def _bracket(product: Callable[[Tensor], Tensor], y: Tensor) -> float:
    """Return the largest entry of the Lie brackets of the gradient fields of ``product``."""
    jacobian = torch.func.jacrev(product)
    fields = jacobian(y)

    def along(i: int, j: int) -> Tensor:
        turn: Tensor = torch.func.jvp(lambda z: jacobian(z)[j], (y,), (fields[i],))[1]
        return turn

    pairs = itertools.combinations(range(len(fields)), 2)
    return max((along(i, j) - along(j, i)).abs().max().item() for i, j in pairs)


def element_wise_bracket(*, shared: bool = False) -> float:
    """Return the bracket of element-wise masks, or of one mask shared by a neuron."""
    y = torch.tensor([0.9, -0.4, 1.3, 0.2, 0.7, -1.1], dtype=torch.float64)

    def product(z: Tensor) -> Tensor:
        m = z[:1].expand(3) if shared else z[:3]
        return Factors().compose({"m": m, "w": z[3:]})

    return _bracket(product, y)


def sign_flow_drift(*, power: float = 1.0) -> float:
    """Return how far |m|^p - |w|^p drifts under sign steps; p = 1 is what they conserve."""
    x0 = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    geometry = Factors(beta=1.0)
    latents = geometry.split(x0)

    def apart() -> Tensor:
        return latents["m"].abs() ** power - latents["w"].abs() ** power

    before = apart()
    for _ in range(1000):
        for name, grad in geometry.pull_back(latents, -x0.sign()).items():
            latents[name].sub_(grad.sign(), alpha=1e-3)
    return (apart() - before).abs().max().item()


def _descend(geometry: Geometry, steps: int, alpha: float) -> Tensor:
    x0 = torch.linspace(1.0, -1.0, 9, dtype=torch.float64)
    target = torch.linspace(-1.5, 1.5, 9, dtype=torch.float64)
    latents = geometry.split(x0)
    for _ in range(steps):
        take_step(geometry, latents, geometry.compose(latents) - target, 2.0 / steps, alpha)
    return geometry.compose(latents)


def order_error(*, a: float = 0.5) -> float:
    """Return how far the ratio of errors is from 2 when the learning rate halves."""
    errors = [
        (_descend(Factors(beta=1.0), steps, 0.2) - _descend(Mirror(a=a), steps, 0.2)).abs().max()
        for steps in (200, 400, 800, 1600)
    ]
    return max(abs(float(big / small) - 2.0) for big, small in itertools.pairwise(errors))
