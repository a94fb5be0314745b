from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from mirrormask.errors import ArgumentError
from mirrormask.lab.schedules import (
    Constant,
    Geometric,
    Harmonic,
    Quadratic,
    Schedule,
    step_strengths,
    total_budget,
)

STRENGTHS = st.floats(0, 10)
UNITS = st.floats(0.01, 10)
SCHEDULES = st.one_of(
    st.builds(Constant, strength=STRENGTHS),
    st.builds(Harmonic, strength=STRENGTHS, unit=UNITS),
    st.builds(Quadratic, strength=STRENGTHS, unit=UNITS),
    st.builds(Geometric, strength=STRENGTHS, unit=UNITS, ratio=st.floats(0.05, 0.99)),
)


@given(schedule=SCHEDULES, t=st.floats(0, 20))
def test_budget_is_the_integral_of_alpha(schedule: Schedule, t: float) -> None:
    points = np.geomspace(1e-3, max(t, 1e-3), 30)
    got, _ = quad(schedule.alpha, 0, t, points=points[points < t], limit=200)
    assert schedule.budget(t) == pytest.approx(got, rel=1e-7, abs=1e-10)


@given(schedule=SCHEDULES)
def test_total_is_the_limit_of_the_budget(schedule: Schedule) -> None:
    late = schedule.budget(1e9)
    if math.isfinite(schedule.total):
        assert late == pytest.approx(schedule.total, rel=1e-6)
        assert total_budget(schedule) == schedule.total
    else:
        assert schedule.budget(1e12) > late
        with pytest.raises(ArgumentError, match="not integrable"):
            total_budget(schedule)


@given(schedule=SCHEDULES, steps=st.integers(1, 50), lr=st.floats(1e-4, 0.5))
def test_steps_spend_exactly_the_budget(schedule: Schedule, steps: int, lr: float) -> None:
    strengths = step_strengths(schedule, steps, lr)
    assert strengths.shape == (steps,)
    assert (strengths >= 0).all()
    assert lr * strengths.sum() == pytest.approx(schedule.budget(steps * lr), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("strength", [-1.0, math.nan, math.inf])
def test_bad_strength_is_refused(strength: float) -> None:
    with pytest.raises(ArgumentError, match="strength"):
        Quadratic(strength=strength)


def test_bad_unit_ratio_and_steps_are_refused() -> None:
    with pytest.raises(ArgumentError, match="unit=0"):
        Harmonic(strength=1.0, unit=0)
    with pytest.raises(ArgumentError, match=r"ratio=1\.0"):
        Geometric(strength=1.0, ratio=1.0)
    with pytest.raises(ArgumentError, match="steps=0"):
        step_strengths(Constant(strength=1.0), 0, 0.1)
