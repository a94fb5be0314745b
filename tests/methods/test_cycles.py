"""Iterative pruning as methods: several cuts beat one, and the knobs."""

from __future__ import annotations

import pytest

import mirrormask as mm


@pytest.mark.parametrize("method", ["wr", "lrr"])
def test_cycles_beat_one_cut_without_fine_tuning(method: str, run) -> None:
    cycled, once = (
        sum(run(name, 0.95, seed=seed).accuracy for seed in (0, 1)) / 2
        for name in (method, "magnitude")
    )
    assert cycled > once + 0.03


@pytest.mark.parametrize("method", ["wr", "lrr", "pilot-wr", "pilot-lrr"])
def test_knobs_reach_their_parts(method: str) -> None:
    masking = mm.METHODS[method].with_knobs({"cycles": 5}).masking
    assert masking.cycles == 5
    assert masking.rewind == ("weights" if method.endswith("wr") else "rate")


def test_pilot_presses_in_every_cycle() -> None:
    for method in ("pilot-wr", "pilot-lrr"):
        recipe = mm.METHODS[method].with_knobs({"cycles": 3, "push": 0.6})
        assert recipe.pressure.push == 0.6
        balanced = [step for step in range(1, 41) if recipe.rebalances_after(step, 40)]
        assert balanced == [10, 20, 30, 40]
