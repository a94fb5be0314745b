"""Timetables of cuts: every one that cuts in training ends at the target, inside the run."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mirrormask.errors import ArgumentError
from mirrormask.masking import AtEnd, GradualCubic, ProjectAndFreeze

PROPERTY = settings(derandomize=True, deadline=None, max_examples=200)


def timetable(policy: object, steps: int, sparsity: float) -> dict[int, float]:
    cuts = {step: policy.cut_after(step, steps, sparsity) for step in range(1, steps + 1)}
    return {step: cut for step, cut in cuts.items() if cut is not None}


@PROPERTY
@given(st.integers(1, 300), st.floats(0, 1, exclude_max=True))
def test_at_end_never_cuts_in_training(steps: int, sparsity: float) -> None:
    assert timetable(AtEnd(), steps, sparsity) == {}


@PROPERTY
@given(st.floats(0, 1, exclude_min=True), st.integers(1, 300), st.floats(0, 1, exclude_max=True))
def test_project_and_freeze_cuts_once(at: float, steps: int, sparsity: float) -> None:
    cuts = timetable(ProjectAndFreeze(at=at), steps, sparsity)
    assert list(cuts.values()) == [sparsity]
    assert abs(next(iter(cuts)) - at * steps) <= max(0.5, 1 - at * steps)


@PROPERTY
@given(
    st.floats(0, 1),
    st.floats(0, 1, exclude_min=True),
    st.integers(1, 60),
    st.integers(1, 300),
    st.floats(0.01, 0.999),
)
@example(begin=0.94, end=0.949, cuts=40, steps=10, sparsity=0.9)  # a ramp inside one step
def test_gradual_cubic_climbs_and_arrives(
    begin: float, end: float, cuts: int, steps: int, sparsity: float
) -> None:
    assume(begin < end)
    table = timetable(GradualCubic(begin=begin, end=end, cuts=cuts), steps, sparsity)
    last = max(1, round(end * steps))
    assert list(table)[-1] == last
    assert table[last] == sparsity
    values = list(table.values())
    assert values == sorted(values)
    assert all(0 <= value <= sparsity for value in values)
    assert len(values) <= cuts + 1
    for step, value in table.items():
        if step < last:
            u = (step - begin * steps) / (last - begin * steps)
            assert math.isclose(value, sparsity * (1 - (1 - u) ** 3), rel_tol=1e-12)


def test_gradual_cubic_spaces_its_cuts_evenly() -> None:
    table = timetable(GradualCubic(begin=0.2, end=0.7, cuts=10), 1000, 0.9)
    assert list(table) == list(range(250, 701, 50))


@pytest.mark.parametrize("at", [0, -0.5, 1.5, math.nan])
def test_project_and_freeze_refuses_a_time_outside_the_run(at: float) -> None:
    with pytest.raises(ArgumentError, match=rf"at={at} is not a part of the run"):
        ProjectAndFreeze(at=at)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"begin": 0.7, "end": 0.5}, "begin=0.7 does not precede end=0.5"),
        ({"begin": -0.1}, "begin=-0.1 does not precede"),
        ({"begin": math.nan}, "begin=nan does not precede"),
        ({"end": 1.1}, "end=1.1 is not a part of the run"),
        ({"cuts": 0}, "cuts=0 is too few"),
        ({"scope": "layerwise"}, "scope='layerwise' is unknown"),
    ],
)
def test_gradual_cubic_refuses_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        GradualCubic(**options)
