"""Bregman iterations as methods: their knob sets level and pressure alike."""

from __future__ import annotations

import pytest

import mirrormask as mm


@pytest.mark.parametrize("name", ["linbreg", "adabreg"])
def test_the_level_of_the_start_is_that_of_the_first_step(name: str) -> None:
    recipe = mm.METHODS[name].with_knobs({"strength": 0.25, "density": 0.3})
    assert recipe.geometry.level == 0.5
    assert recipe.pressure.start(1.0)["alpha"] == 0.25
    assert recipe.geometry.density == 0.3


def test_only_adabreg_asks_for_adam() -> None:
    assert mm.METHODS["linbreg"].base == "any"
    assert mm.METHODS["adabreg"].base == "adam"
