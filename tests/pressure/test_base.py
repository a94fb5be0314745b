"""No pressure and constant pressure, and what every pressure refuses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrormask.errors import ArgumentError
from mirrormask.pressure import Algorithm1, Clock, Constant, NoPressure, Pressure

PROPERTY = settings(derandomize=True, deadline=None, max_examples=100)


def clocks(steps: int) -> list[Clock]:
    return [Clock(step=step, steps=steps, rate=0.1) for step in range(steps)]


def test_no_pressure_is_zero_in_every_step() -> None:
    pressure = NoPressure()
    assert {pressure.alpha(pressure.start(1.0), clock) for clock in clocks(50)} == {0.0}


@PROPERTY
@given(st.floats(0, 1), st.floats(0, 1, exclude_min=True), st.integers(1, 200))
def test_constant_is_on_for_its_part_of_the_run(value: float, until: float, steps: int) -> None:
    pressure = Constant(strength=value, until=until)
    state = pressure.start(1.0)
    path = [pressure.alpha(state, clock) for clock in clocks(steps)]
    on = math.ceil(until * steps)
    assert path == [value] * on + [0.0] * (steps - on)


@pytest.mark.parametrize("pressure", [NoPressure(), Constant(strength=1.0), Algorithm1()])
def test_pressures_without_feedback_ask_for_no_measurement(pressure: Pressure) -> None:
    assert not any(pressure.measures_at(clock) for clock in clocks(100))
    state = pressure.start(1.0)
    assert pressure.react(state, [1.0], clocks(100)[3]) == state
    with pytest.raises(LookupError, match="measures nothing"):
        pressure.measure([torch.ones(2)], 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": -1e-9}, "strength=-1e-09 is not a strength"),
        ({"strength": math.nan}, "strength=nan is not a strength"),
        ({"strength": math.inf}, "strength=inf is not a strength"),
        ({"strength": 1.0, "until": 0.0}, "until=0.0 is not a part of the run"),
        ({"strength": 1.0, "until": 1.01}, "until=1.01 is not a part of the run"),
        ({"strength": 1.0, "until": math.nan}, "until=nan is not a part of the run"),
        ({"strength": 1.0, "application": "L1"}, "application='L1' is unknown"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Constant(**options)
