"""Knobs and records: ranges, building with knobs, and mistakes that show early."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.masking import GradualCubic
from mirrormask.methods import Knob, Method


def knob(**changes: object) -> Knob:
    options = {"name": "end", "default": 0.5, "low": 0.25, "high": 1.0, "log": False}
    return Knob(**(options | changes))


def record(**changes: object) -> Method:
    options = {
        "name": "late",
        "summary": "a gradual cut",
        "source": "here",
        "build": lambda end: mm.Recipe(masking=GradualCubic(end=end)),
        "knobs": (knob(),),
    }
    return Method(**(options | changes))


@given(
    low=st.floats(1e-6, 1.0),
    width=st.floats(1.5, 1e4),
    part=st.floats(0.0, 1.0),
    log=st.booleans(),
)
def test_a_knob_covers_its_range_and_nothing_else(
    *, low: float, width: float, part: float, log: bool
) -> None:
    high = low * width
    one = knob(low=low, high=high, default=low, log=log)
    value = one.at(part)
    assert low * (1 - 1e-5) <= value <= high * (1 + 1e-5)
    assert one.at(0.0) == pytest.approx(low, rel=1e-5)
    assert one.at(1.0) == pytest.approx(high, rel=1e-5)
    middle = (low * high) ** 0.5 if log else (low + high) / 2
    assert one.at(0.5) == pytest.approx(middle, rel=1e-5)


def test_a_whole_knob_gives_whole_numbers() -> None:
    cycles = knob(low=2, high=9, default=3, whole=True)
    assert {cycles.at(part / 50) for part in range(51)} == set(map(float, range(2, 10)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"default": 2.0}, r"default=2\.0 and range \[0\.25, 1\.0\]: use low <= default"),
        ({"low": 1.0, "default": 1.0}, "use low <= default <= high with low < high"),
        ({"low": 0.0, "log": True}, r"low=0\.0 on a logarithmic scale: use a positive number"),
    ],
)
def test_a_knob_without_a_range_is_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        knob(**changes)


def test_knobs_reach_the_recipe() -> None:
    late = record()
    assert late.recipe.masking.end == 0.5
    assert late.with_knobs({"end": 0.8}).masking.end == 0.8
    assert late.recipe.masking.end == 0.5


@pytest.mark.parametrize(
    ("method", "values", "message"),
    [
        (record(), {"ende": 0.5}, r"'ende' is unknown: did you mean 'end'"),
        (record(), {"end": 1.5}, r"end=1\.5 is not a part of the run"),
        (record(build=mm.Recipe, knobs=()), {"end": 0.5}, "has no knobs: leave 'end' out"),
        (record(knobs=(knob(whole=True, high=3),)), {"end": 1.5}, r"end=1\.5 is no whole number"),
    ],
)
def test_wrong_knobs_are_refused(method: Method, values: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        method.with_knobs(values)


@pytest.mark.parametrize("option", ["reaches", "base"])
def test_unknown_options_are_refused(option: str) -> None:
    with pytest.raises(ArgumentError, match=f"{option}='luck' is unknown: use one of"):
        record(**{option: "luck"})


@pytest.mark.parametrize("method", mm.METHODS)
def test_both_ends_of_every_registered_range_build(method: str) -> None:
    this = mm.METHODS[method]
    for one in this.knobs:
        low, high = (this.with_knobs({one.name: one.at(part)}) for part in (0.0, 1.0))
        assert low != high, f"{one.name} of {method} changes nothing"
        assert one.summary
