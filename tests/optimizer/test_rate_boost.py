"""What a layer's learning rate is multiplied by: a closed form of density, speed and run length."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mirrormask.errors import ArgumentError
from mirrormask.optimizer import RateBoost
from mirrormask.pressure import Clock


def clock(step: int = 0, *, steps: int = 400, rate: float = 1.0) -> Clock:
    return Clock(step=step, steps=steps, rate=rate)


@given(kept=st.integers(1, 1000), limit=st.floats(1.0, 1e6))
def test_the_factor_is_one_over_the_density_within_the_limit(kept, limit):
    density = torch.tensor(kept / 1000)
    factor = float(RateBoost().factor(density, limit))
    assert factor == pytest.approx(min(1000 / kept, limit), rel=1e-6)
    assert factor >= 1.0


def test_a_layer_of_which_nothing_is_left_has_the_limit():
    assert float(RateBoost().factor(torch.tensor(0.0), 7.0)) == 7.0


def test_nothing_is_boosted_before_the_first_measurement_has_arrived():
    boost = RateBoost()
    assert boost.limit(boost.see(boost.start(), clock()), clock()) == 1.0


def test_the_limit_lets_weights_wander_by_their_reach():
    # 400 steps of 0.5 % of their size, in random directions: a tenth of it, a fifth of the reach.
    boost = RateBoost(reach=0.5)
    state = boost.react(boost.see(boost.start(), clock(rate=0.1)), [0.05])
    assert boost.limit(state, clock()) == pytest.approx(5.0)
    # The highest rate counts, so that the boost does not undo a schedule.
    assert boost.limit(boost.see(state, clock(rate=0.01)), clock()) == pytest.approx(5.0)
    assert boost.limit(boost.see(state, clock(rate=0.2)), clock()) == pytest.approx(2.5)
    # In a run a hundred times as long they get there by themselves.
    assert boost.limit(state, clock(steps=40_000)) == 1.0


def test_speeds_are_a_running_mean_and_nonsense_is_left_out():
    boost = RateBoost()
    state = boost.react(boost.start(), [0.04])
    assert state["speed"] == 0.04
    for nothing in (0.0, math.nan, math.inf):
        assert boost.react(state, [nothing]) == state
    assert boost.react(state, [0.08])["speed"] == pytest.approx(0.05)


def test_the_fastest_speed_counts():
    boost = RateBoost(reach=0.5)
    state = boost.react(boost.see(boost.start(), clock(rate=0.1)), [0.05])
    slower = boost.react(state, [0.001])
    assert slower["speed"] < state["speed"]
    assert boost.limit(slower, clock()) == boost.limit(state, clock())
    faster = boost.react(state, [0.5])
    assert boost.limit(faster, clock()) < boost.limit(state, clock())


def test_measurements_are_spread_evenly_and_end():
    boost = RateBoost(until=0.5, intervals=10)
    asked = [step for step in range(400) if boost.measures_at(clock(step))]
    assert asked == list(range(0, 200, 20))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"reach": 0.0}, r"reach=0.0 lets no weight move: use a positive number"),
        ({"reach": math.nan}, "reach=nan"),
        ({"until": 0.0}, r"until=0.0 is not in \(0, 1\]"),
        ({"until": 1.5}, "until=1.5"),
        ({"intervals": 0}, "intervals=0 is too few"),
    ],
)
def test_what_makes_no_sense_is_refused(options, says):
    with pytest.raises(ArgumentError, match=says):
        RateBoost(**options)
