"""Schedules against their formulas written out."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mirrormask.errors import ArgumentError
from mirrormask.study.schedule import Schedule
from mirrormask.study.warmup import warmup_cosine


def test_default_is_the_schedule_of_all_studies() -> None:
    schedule = Schedule()
    for steps in (1, 7, 100):
        assert [schedule(s, steps) for s in range(steps)] == [
            warmup_cosine(s, steps) for s in range(steps)
        ]


def test_cosine_after_a_rise_of_so_many_steps() -> None:
    schedule = Schedule(rise=5)
    factors = [schedule(step, 105) for step in range(105)]
    assert factors[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    for step in range(5, 105):
        assert factors[step] == pytest.approx(math.cos(math.pi * (step - 5) / 200) ** 2)
    assert Schedule(rise=0)(0, 10) == 1.0
    # A phase shorter than the rise only rises.
    assert [Schedule(rise=5)(step, 3) for step in range(3)] == [0.2, 0.4, 0.6]


def test_steps_down() -> None:
    schedule = Schedule(shape="step", rise=0, drops=(0.3333, 0.6667), drop_factor=0.1)
    factors = [schedule(step, 150) for step in range(150)]
    assert factors == pytest.approx([1.0] * 50 + [0.1] * 51 + [0.01] * 49)
    assert Schedule(shape="step")(0, 100) == 0.1, "a tenth of the steps rises by default"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"shape": "cosin"}, "did you mean 'cosine'"),
        ({"rise": -1}, "-1 steps"),
        ({"drops": (0.7, 0.3)}, "0.7, 0.3"),
        ({"drops": (0.5, 1.0)}, "0.5, 1.0"),
        ({"drop_factor": 1.0}, "drop_factor=1.0"),
    ],
)
def test_mistakes_are_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ArgumentError, match=named):
        Schedule(**wrong)
