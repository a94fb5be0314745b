"""A recipe is checked when made, and knows when to rebalance."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mirrormask as mm
from mirrormask.errors import ArgumentError


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(st.floats(0, 1, exclude_min=True), max_size=4), st.integers(1, 200))
def test_each_fraction_rebalances_once_inside_the_run(fractions: list[float], steps: int) -> None:
    recipe = mm.Recipe(rebalance=tuple(fractions))
    at = [step for step in range(1, steps + 1) if recipe.rebalances_after(step, steps)]
    assert at == sorted({max(1, round(fraction * steps)) for fraction in fractions})


@pytest.mark.parametrize("bad", [0.0, -0.5, 1.5, math.nan])
def test_a_fraction_outside_the_run_is_refused(bad: float) -> None:
    with pytest.raises(ArgumentError, match=rf"rebalance=\(0.5, {bad}\) holds {bad}: use"):
        mm.Recipe(rebalance=(0.5, bad))


def test_recipes_are_values() -> None:
    assert mm.Recipe() == mm.Recipe()
    assert repr(mm.Recipe()).startswith("Recipe(geometry=Euclidean()")
    with pytest.raises(AttributeError):
        mm.Recipe().rebalance = (0.5,)
