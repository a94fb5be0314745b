"""Masks that move as methods: what AC/DC and RigL promise, on small images; knobs."""

from __future__ import annotations

import pytest

import mirrormask as mm
from mirrormask.masking import ACDC
from mirrormask.methods.regrowth import resets


def test_rigl_beats_a_static_random_mask(run) -> None:
    grown, static = (
        sum(run(method, 0.95, seed=seed).accuracy for seed in (0, 1)) / 2
        for method in ("rigl", "random")
    )
    assert grown > static + 0.08


def test_the_loss_jumps_at_a_compression_and_recovers_in_the_dense_phase(run) -> None:
    # Of 300 steps: compressed from 30, dense from 75, compressed from 120, dense from 165.
    recipe = mm.Recipe(masking=ACDC(warmup=0.1, final=0.3, cycles=2))
    losses = run(recipe, 0.97, trace=True).losses
    for begin in (30, 120):
        before, cut, compressed, dense = (
            losses[step - 1] for step in (begin - 1, begin, begin + 44, begin + 89)
        )
        assert cut > 2 * before
        assert compressed < cut
        assert dense < 0.7 * compressed
        assert dense < 1.5 * before


@pytest.mark.parametrize("number", [1, 3, 4])
def test_factors_are_balanced_anew_in_the_first_half(number: int) -> None:
    recipe = mm.METHODS["sign-in"].with_knobs({"count": number})
    steps = [step for step in range(1, 241) if recipe.rebalances_after(step, 240)]
    assert steps == [120 * k // number for k in range(1, number + 1)]
    assert resets(number)[-1] == 0.5


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("acdc", {"cycles": 2, "final": 0.35}),
        ("pilot-acdc", {"cycles": 2}),
        ("rigl", {"fraction": 0.2, "updates": 7}),
        ("rigl-uniform", {"fraction": 0.2, "updates": 7}),
        ("set", {"fraction": 0.2, "updates": 7}),
    ],
)
def test_knobs_reach_their_parts(method: str, values: dict[str, float]) -> None:
    masking = mm.METHODS[method].with_knobs(values).masking
    assert {name: getattr(masking, name) for name in values} == values


def test_the_budgets_of_layers_are_those_of_the_names() -> None:
    scopes = {name: mm.METHODS[name].recipe.masking.scope for name in ("rigl", "rigl-uniform")}
    assert scopes == {"rigl": "erk", "rigl-uniform": "uniform"}
    assert mm.METHODS["pilot-acdc"].with_knobs({"push": 0.4}).pressure.push == 0.4
