"""The mirror step against arcsinh and sinh formed in high precision, and its limits."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from mirrormask.errors import ArgumentError
from mirrormask.geometry import Landing, Mirror
from mirrormask.geometry.mirror_step import mirror_step

SIGNED = st.one_of(
    st.just(0.0),
    st.builds(lambda s, e: s * 10.0**e, st.sampled_from([-1.0, 1.0]), st.floats(-20, 3)),
)


def exact_step(x: float, a: float, z: float, a_next: float) -> mpmath.mpf:
    with mpmath.workdps(80):
        theta = mpmath.asinh(mpmath.mpf(x) / mpmath.mpf(a)) - mpmath.mpf(z)
        return mpmath.mpf(a_next) * mpmath.sinh(theta)


@given(x=SIGNED, log_a=st.floats(-30, 1), z=st.floats(-8, 8), ratio=st.floats(1e-3, 1))
def test_step_is_sinh_of_the_moved_dual(x: float, log_a: float, z: float, ratio: float) -> None:
    a = max(10.0**log_a, 1e-30)
    a_next = max(a * ratio, 1e-30)
    got = mirror_step(*(torch.tensor(v, dtype=torch.float64) for v in (x, a, z, a_next))).item()
    want = exact_step(x, a, z, a_next)
    # The move is of size (|x| + a) exp|z|, and 1 - tanh² loses another factor of exp|z|.
    size = (abs(x) + a) * math.exp(2 * abs(z))
    assert abs(got - float(want)) <= 1e-15 * size * (a_next / a) + 1e-300


@given(x=SIGNED, z=st.floats(8, 1e30), sign=st.sampled_from([-1.0, 1.0]))
def test_a_wild_step_is_cut_off_at_eight(x: float, z: float, sign: float) -> None:
    weight, scale = torch.tensor(x, dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64)
    wild = mirror_step(weight, scale, torch.tensor(sign * z, dtype=torch.float64), scale)
    bound = mirror_step(weight, scale, torch.tensor(sign * 8.0, dtype=torch.float64), scale)
    assert torch.equal(wild, bound)


@given(
    x=st.floats(-1e3, 1e3, width=32),
    log_a=st.floats(-30, 1),
    z=st.floats(allow_nan=False, allow_infinity=True, width=32),
    budget=st.floats(0, 100),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@example(x=1e3, log_a=-30.0, z=-math.inf, budget=0.0, dtype=torch.float32)
@example(x=0.0, log_a=-30.0, z=math.inf, budget=100.0, dtype=torch.float32)
def test_steps_stay_finite_down_to_the_smallest_scale(
    x: float, log_a: float, z: float, budget: float, dtype: torch.dtype
) -> None:
    mirror = Mirror(a=max(10.0**log_a, 1e-30))
    latents = mirror.split(torch.tensor([x, -x, 0.0], dtype=dtype))
    moved = mirror.moving(latents)
    moved["dual"].add_(z)
    mirror.absorb(latents, moved, Landing(budget=budget))
    assert torch.isfinite(latents["x"]).all()
    assert latents["a"] > 0.99e-30
    mirror.shrink(latents, min(abs(z), 1e30))
    assert torch.isfinite(latents["x"]).all()


@given(x=SIGNED, log_a=st.floats(-30, 1), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_an_idle_step_moves_no_bit(x: float, log_a: float, dtype: torch.dtype) -> None:
    mirror = Mirror(a=max(10.0**log_a, 1e-30))
    weight = torch.tensor([x], dtype=dtype)
    latents = mirror.split(weight)
    mirror.absorb(latents, mirror.moving(latents), Landing())
    mirror.shrink(latents, 0.0)
    assert torch.equal(latents["x"], weight)


@given(x=SIGNED, log_a=st.floats(-12, 1), amount=st.floats(0, 5))
@example(x=1e-9, log_a=math.log10(0.5), amount=1e-10)
def test_shrink_is_the_soft_threshold_of_the_dual(x: float, log_a: float, amount: float) -> None:
    a = 10.0**log_a
    mirror = Mirror(a=a)
    latents = mirror.split(torch.tensor([x], dtype=torch.float64))
    mirror.shrink(latents, amount)
    got = latents["x"].item()
    with mpmath.workdps(60):
        theta = mpmath.asinh(mpmath.mpf(x) / mpmath.mpf(a))
        left = max(abs(theta) - 2 * mpmath.mpf(amount), mpmath.mpf(0))
        want = float(mpmath.sign(theta) * mpmath.mpf(a) * mpmath.sinh(left))
    assert abs(got - want) <= 1e-13 * (abs(x) + a * math.sinh(2 * amount))
    if want == 0:
        assert abs(got) <= 1e-13 * abs(x)


def test_decay_pulls_to_zero_by_the_budget() -> None:
    mirror = Mirror(a=0.5)
    x = torch.tensor([0.3, -2.0, 0.0], dtype=torch.float64)
    latents = mirror.split(x)
    mirror.decay(latents, 0.25)
    torch.testing.assert_close(latents["x"], x * math.exp(-1), rtol=1e-14, atol=0)
    assert latents["a"].item() == pytest.approx(0.5 * math.exp(-1), rel=1e-14)
    assert mirror.scale(latents) is latents["a"]


def test_zero_can_always_be_left() -> None:
    for a in (1e-30, 0.5):
        mirror = Mirror(a=a)
        latents = mirror.split(torch.zeros(1))
        for _ in range(60):
            moved = mirror.moving(latents)
            moved["dual"].sub_(1.0)
            mirror.absorb(latents, moved, Landing())
        assert latents["x"].item() < -1.0


def test_the_dual_accumulates_like_arcsinh() -> None:
    """Claim 4 for the mirror: steps add up in the dual exactly, whatever their number."""
    rng = np.random.default_rng(3)
    x0 = torch.from_numpy(rng.normal(size=20))
    mirror = Mirror(a=0.5)
    latents = mirror.split(x0)
    total = np.zeros(20)
    for _ in range(500):
        moved = mirror.moving(latents)
        move = rng.normal(size=20) * 0.02
        total += move
        moved["dual"].add_(torch.from_numpy(move))
        mirror.absorb(latents, moved, Landing(budget=0.002))
    a = 0.5 * math.exp(-4 * 0.002 * 500)
    want = a * np.sinh(np.arcsinh(x0.numpy() / 0.5) + 2 * total)
    np.testing.assert_allclose(latents["x"].numpy(), want, rtol=1e-10, atol=1e-14)


def test_one_wild_gradient_does_not_destroy_the_scale() -> None:
    mirror = Mirror(a=0.5, noise="second-moment")
    latents = mirror.split(torch.ones(4))
    moved = mirror.moving(latents)
    moved["dual"].add_(1.5)
    mirror.absorb(latents, moved, Landing())
    assert latents["a"] > 0.01


@pytest.mark.parametrize("a", [0.0, -1.0, 1e-31, math.nan, math.inf])
def test_bad_scale_is_refused_by_name(a: float) -> None:
    with pytest.raises(ArgumentError, match=f"a={a}"):
        Mirror(a=a)


def test_unknown_noise_is_refused_by_name() -> None:
    with pytest.raises(ArgumentError, match="'gauss'"):
        Mirror(noise="gauss")  # type: ignore[arg-type]
