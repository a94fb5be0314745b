"""Pruning by magnitude: a ramp with training on it beats one cut at the end."""

from __future__ import annotations

import mirrormask as mm


def test_gradual_pruning_beats_one_cut_without_fine_tuning(run) -> None:
    gradual, once = (
        sum(run(method, 0.95, seed=seed).accuracy for seed in (0, 1)) / 2
        for method in ("gmp", "magnitude")
    )
    assert gradual > once + 0.04


def test_knobs_reach_their_parts() -> None:
    assert mm.METHODS["gmp"].with_knobs({"end": 0.4}).masking.end == 0.4
