"""Claim 24: the bounds of Algorithm 1 hold exactly, whatever the accuracies do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrormask.errors import ArgumentError
from mirrormask.pressure import Algorithm1, Clock, PressureState, TrainingSignal

PROPERTY = settings(derandomize=True, deadline=None, max_examples=200)

accuracies = st.one_of(st.floats(0, 1), st.just(math.nan), st.sampled_from([0.0, 0.5, 1.0]))
epochs = st.lists(st.tuples(accuracies, st.floats(0, 10)), min_size=1, max_size=120)


def run(
    rule: Algorithm1, signals: list[tuple[float, float]], *, batches: int, l1: float
) -> list[float]:
    """Return alpha before the first epoch and after each, with ``batches`` steps an epoch."""
    state = rule.start(l1)
    steps = batches * len(signals)
    path = [rule.alpha(state, Clock(step=0, steps=steps, rate=0.1))]
    for epoch, (accuracy, norm) in enumerate(signals, start=1):
        signal = TrainingSignal(accuracy=accuracy, l1=norm, step=epoch * batches)
        state = rule.observe(state, signal, steps)
        path.append(rule.alpha(state, Clock(step=epoch * batches, steps=steps, rate=0.1)))
    return path


@PROPERTY
@given(epochs, st.floats(1, 5), st.integers(1, 50), st.floats(0, 2))
def test_bounds_hold_for_any_sequence(
    signals: list[tuple[float, float]], delta: float, batches: int, floor: float
) -> None:
    rule = Algorithm1(alpha_init=1e-4, delta=delta, floor=floor)
    path = run(rule, signals, batches=batches, l1=3.0)
    assert path[0] == 1e-4
    assert max(path) <= 1e-4 * math.pow(delta, len(signals) // 2)
    assert path[-1] <= 1e-4
    assert min(path) >= 1e-4 * math.pow(delta, -len(signals))


@PROPERTY
@given(st.integers(1, 100), st.floats(1, 5))
def test_bounds_are_reached_by_perfect_training(count: int, delta: float) -> None:
    path = run(Algorithm1(alpha_init=1e-4, delta=delta), [(1.0, 1.0)] * count, batches=1, l1=1.0)
    assert max(path) == 1e-4 * math.pow(delta, count // 2)
    assert path[-1] == 1e-4 * math.pow(delta, 2 * (count // 2) - count)


def reference(signals: list[tuple[float, float]], k: float, tolerance: float) -> list[int]:
    """Algorithm 1 as the paper writes it, in exponents of delta, with K a sum of ``|x|``."""
    exponents, previous = [0], -math.inf
    for epoch, (accuracy, norm) in enumerate(signals, start=1):
        good = accuracy >= previous - tolerance and norm >= k and epoch <= len(signals) / 2
        exponents.append(exponents[-1] + (1 if good else -1))
        previous = accuracy
    return exponents


@PROPERTY
@given(epochs, st.floats(0, 10), st.floats(0, 0.5), st.integers(1, 7))
def test_equals_the_papers_pseudocode(
    signals: list[tuple[float, float]], k: float, tolerance: float, batches: int
) -> None:
    rule = Algorithm1(
        alpha_init=1.0, delta=2.0, floor=k, floor_unit="absolute", tolerance=tolerance
    )
    path = run(rule, signals, batches=batches, l1=123.0)
    assert [math.log2(alpha) for alpha in path] == reference(signals, k, tolerance)


def test_relative_floor_is_a_fraction_of_the_sum_at_the_start() -> None:
    rule = Algorithm1(alpha_init=1.0, delta=2.0, floor=0.5, floor_unit="start")
    assert run(rule, [(0.5, 5.0), (0.5, 4.999), (0.5, 5.0), (0.5, 5.0)], batches=1, l1=10.0) == [
        1.0,
        2.0,
        1.0,
        0.5,
        0.25,
    ]


def test_state_is_plain_numbers() -> None:
    rule = Algorithm1()
    state: PressureState = rule.start(2.0)
    assert all(type(value) is float for value in state.values())
    before = dict(state)
    rule.observe(state, TrainingSignal(accuracy=0.5, l1=1.0, step=1), 2)
    assert state == before  # pure: nothing is changed in place


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha_init": -1.0}, "alpha_init=-1.0 is not a strength"),
        ({"alpha_init": math.nan}, "alpha_init=nan is not a strength"),
        ({"delta": 0.9}, "delta=0.9 would invert the rule"),
        ({"delta": math.inf}, "delta=inf would invert the rule"),
        ({"floor": -0.1}, "floor=-0.1 is not a strength"),
        ({"tolerance": math.inf}, "tolerance=inf is not a strength"),
        ({"floor_unit": "percent"}, "floor_unit='percent' is unknown: use 'start' or 'absolute'"),
        ({"application": "lasso"}, "application='lasso' is unknown: use one of"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Algorithm1(**options)
