"""Claims 2-6 and 15-18 on the factors, against SciPy's integrator and the closed form."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from mirrormask.geometry import Factors

Array = np.ndarray
RNG = np.random.default_rng(7)
X0 = RNG.normal(size=6) * np.array([1e-3, 0.1, 0.5, 1.0, 2.0, 5.0])


def gradient_at(t: float) -> Array:
    """A force that changes sign in time, different in every coordinate."""
    k = np.arange(6)
    return 0.6 * np.sin(1.3 * t + k) + 0.1 * (k - 2.5)


def gradient_integral(t: float) -> Array:
    k = np.arange(6)
    return 0.6 / 1.3 * (np.cos(k) - np.cos(1.3 * t + k)) + 0.1 * (k - 2.5) * t


def alpha_at(t: float) -> float:
    return 0.3 * math.exp(-t)


def budget(t: float) -> float:
    return 0.3 * (1 - math.exp(-t))


def flow(geometry: Factors, x0: Array, end: float, alpha: Callable[[float], float]) -> Array:
    """Integrate the factors' own gradient field; rows m and w at the end."""
    start = geometry.split(torch.from_numpy(x0))
    n = len(x0)

    def field(t: float, y: Array) -> Array:
        latents = {"m": torch.from_numpy(y[:n]), "w": torch.from_numpy(y[n:])}
        pulled = geometry.pull_back(latents, torch.from_numpy(gradient_at(t)))
        field_m, field_w = pulled["m"].numpy(), pulled["w"].numpy()
        return -np.concatenate([field_m + 2 * alpha(t) * y[:n], field_w + 2 * alpha(t) * y[n:]])

    y0 = torch.cat([start["m"], start["w"]]).numpy()
    solved = solve_ivp(field, (0, end), y0, method="DOP853", rtol=1e-13, atol=1e-14)
    return solved.y[:, -1].reshape(2, n)


@pytest.mark.parametrize("beta", [0.01, 1.0, 3.0])
@pytest.mark.parametrize("end", [0.5, 3.0])
def test_balance_and_closed_form_of_the_flow(beta: float, end: float) -> None:
    m, w = flow(Factors(beta=beta), X0, end, alpha_at)
    balance = beta * math.exp(-4 * budget(end))
    np.testing.assert_allclose(m**2 - w**2, balance, rtol=0, atol=1e-10)  # claim 2
    a = balance / 2
    closed = a * np.sinh(np.arcsinh(2 * X0 / beta) - 2 * gradient_integral(end))
    np.testing.assert_allclose(m * w, closed, rtol=1e-10, atol=1e-10)  # claim 4
    # claim 5: an exponent of 2A in place of 4A misses by far
    wide = beta / 2 * math.exp(-2 * budget(end))
    wrong = wide * np.sinh(np.arcsinh(2 * X0 / beta) - 2 * gradient_integral(end))
    assert np.abs(m * w - wrong).max() / np.abs(closed).max() > 0.1


def test_metric_of_x_by_finite_difference() -> None:
    """Claim 6: dx = -2 sqrt(x² + a²) g dt - 4 alpha x dt."""
    geometry = Factors(beta=1.0)
    x = torch.from_numpy(X0)
    grad = torch.from_numpy(gradient_at(0.3))
    alpha, h = 0.2, 1e-6
    ends = []
    for step in (-h, h):
        latents = geometry.split(x)
        pulled = geometry.pull_back(latents, grad)
        geometry.decay(latents, step * alpha)
        moved = {k: latents[k] - step * pulled[k] for k in latents}
        ends.append(geometry.compose(moved))
    rate = (ends[1] - ends[0]) / (2 * h)
    want = -2 * torch.sqrt(x**2 + 0.25) * grad - 4 * alpha * x
    torch.testing.assert_close(rate, want, rtol=1e-5, atol=0)


def test_exact_law_of_discrete_descent(rng: torch.Generator) -> None:
    """Claim 3: a step multiplies m² - w² by (1 - 2 lr alpha)² - (lr g)²."""
    geometry = Factors(beta=1.0)
    x = torch.randn(50, dtype=torch.float64, generator=rng) * 0.3
    latents = geometry.split(x)
    lr, alpha = 0.05, 0.1
    predicted = torch.ones(50, dtype=torch.float64)
    for _ in range(200):
        grad = torch.randn(50, dtype=torch.float64, generator=rng)
        pulled = geometry.pull_back(latents, grad)
        geometry.decay(latents, lr * alpha)
        for name in latents:
            latents[name] -= lr * pulled[name]
        predicted *= (1 - 2 * lr * alpha) ** 2 - (lr * grad) ** 2
    m, w = latents["m"], latents["w"]
    # Formed as a product so that the oracle itself does not cancel.
    torch.testing.assert_close((m - w) * (m + w), predicted, rtol=1e-12, atol=0)


def test_without_balance_no_sign_flips_and_with_it_at_the_stated_budget() -> None:
    """Claim 15: the flip comes when the integral of g is arcsinh(2 x0 / beta) / 2."""
    x0, lr = 0.4, 1e-4
    for beta in (0.1, 1.0):
        geometry = Factors(beta=beta)
        latents = geometry.split(torch.tensor([x0], dtype=torch.float64))
        grad = torch.ones(1, dtype=torch.float64)
        steps = 0
        while geometry.compose(latents).item() > 0:
            pulled = geometry.pull_back(latents, grad)
            for name in latents:
                latents[name] -= lr * pulled[name]
            steps += 1
        want = 0.5 * math.asinh(2 * x0 / beta)
        assert abs(steps * lr / want - 1) < 0.01
    geometry = Factors(beta=0.0)
    latents = geometry.split(torch.tensor([x0], dtype=torch.float64))
    for _ in range(20000):
        pulled = geometry.pull_back(latents, torch.ones(1, dtype=torch.float64))
        for name in latents:
            latents[name] -= 1e-3 * pulled[name]
    assert 0 < geometry.compose(latents).item() < 1e-12


def test_equal_factors_stay_equal_bitwise(rng: torch.Generator) -> None:
    """Claim 16: m = w freezes x >= 0 for ever."""
    geometry = Factors()
    start = torch.rand(30, dtype=torch.float64, generator=rng)
    latents = {"m": start.clone(), "w": start.clone()}
    for _ in range(300):
        pulled = geometry.pull_back(latents, torch.randn(30, dtype=torch.float64, generator=rng))
        for name in latents:
            latents[name] -= 0.1 * pulled[name]
        geometry.decay(latents, 0.001)
        assert torch.equal(latents["m"], latents["w"])
        assert (geometry.compose(latents) >= 0).all()


def test_element_wise_fields_commute_and_neuron_wise_fields_do_not() -> None:
    """Claim 17: the Lie bracket of the fields of two coordinates, by automatic differentiation."""

    def bracket(product: Callable[[torch.Tensor], torch.Tensor], y: torch.Tensor) -> float:
        jacobian = torch.func.jacrev(product)

        def commutator(i: int, j: int) -> torch.Tensor:
            def field_i(z: torch.Tensor) -> torch.Tensor:
                return jacobian(z)[i]

            def field_j(z: torch.Tensor) -> torch.Tensor:
                return jacobian(z)[j]

            return (
                torch.func.jvp(field_j, (y,), (field_i(y),))[1]
                - torch.func.jvp(field_i, (y,), (field_j(y),))[1]
            )

        return max(float(commutator(i, j).abs().max()) for i in range(3) for j in range(i))

    geometry = Factors()
    y = torch.tensor([0.9, -0.4, 1.3, 0.2, 0.7, -1.1], dtype=torch.float64)

    def element_wise(z: torch.Tensor) -> torch.Tensor:
        return geometry.compose({"m": z[:3], "w": z[3:]})

    def neuron_wise(z: torch.Tensor) -> torch.Tensor:
        return z[0] * z[3:]

    assert bracket(element_wise, y) < 1e-12
    assert bracket(neuron_wise, y) > 1e-2


def test_sign_descent_keeps_the_difference_of_magnitudes() -> None:
    """Claim 18: dm = -sign(g w), dw = -sign(g m) conserves |m| - |w|, not m² - w²."""
    geometry = Factors(beta=1.0)
    x0 = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    latents = geometry.split(x0)
    apart = latents["m"].abs() - latents["w"].abs()
    balance = latents["m"] ** 2 - latents["w"] ** 2
    for _ in range(1000):  # pushes |x| up, so no factor crosses zero
        pulled = geometry.pull_back(latents, -x0.sign())
        for name in latents:
            latents[name] -= 1e-3 * pulled[name].sign()
    now = latents["m"].abs() - latents["w"].abs()
    torch.testing.assert_close(now, apart, rtol=0, atol=1e-12)
    assert ((latents["m"] ** 2 - latents["w"] ** 2) - balance).abs().min() > 0.1
