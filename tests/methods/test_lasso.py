"""L1 as a method: zeros grow with its strength, and fine-tuning after a cut pays."""

from __future__ import annotations

from itertools import pairwise

import mirrormask as mm

STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3)


def test_proximal_zeros_grow_with_the_strength(run) -> None:
    recipes = [mm.METHODS["l1"].with_knobs({"strength": strength}) for strength in STRENGTHS]
    zeros = [run(recipe, 0.95).zeros_before for recipe in recipes]
    assert zeros[0] > 0
    assert all(1.2 * few < many for few, many in pairwise(zeros))
    assert 0.8 * 7400 < zeros[-1] < 7400


def test_cut_and_freeze_beats_a_cut_at_the_end(run) -> None:
    for strength in STRENGTHS[:2]:
        frozen, cut = (
            run(mm.METHODS[method].with_knobs({"strength": strength}), 0.95).accuracy
            for method in ("l1-freeze", "l1")
        )
        assert frozen > cut + 0.03


def test_knobs_reach_their_parts() -> None:
    for method in ("l1", "l1-freeze", "l1-subgradient", "l1-subgradient-freeze", "spred"):
        assert mm.METHODS[method].with_knobs({"strength": 0.25}).pressure.strength == 0.25
