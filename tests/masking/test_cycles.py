"""Cycles: when they cut, how much is left, where phases begin, what is stored."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrormask.errors import ArgumentError
from mirrormask.masking import Cycles


def timetable(policy: Cycles, steps: int, sparsity: float) -> dict[int, float]:
    cuts = {step: policy.cut_after(step, steps, sparsity) for step in range(steps + 1)}
    return {step: cut for step, cut in cuts.items() if cut is not None}


def test_25_cycles_that_keep_four_fifths_each() -> None:
    table = timetable(Cycles(cycles=25), 2600, 1 - 0.8**25)
    assert list(table) == list(range(100, 2501, 100))
    left = [1.0] + [1 - cut for cut in table.values()]
    for before, after in itertools.pairwise(left):
        assert after / before == pytest.approx(0.8, rel=1e-9)


@given(st.integers(1, 30), st.integers(2, 400), st.floats(0, 0.999))
def test_every_timetable_ends_at_the_target(cycles: int, steps: int, sparsity: float) -> None:
    policy = Cycles(cycles=cycles)
    table = timetable(policy, steps, sparsity)
    assert list(table.values())[-1] == sparsity
    values = list(table.values())
    assert values == sorted(values)
    assert min(table) >= 1
    if steps > cycles:  # every phase has a step of its own
        wanted = [1 - (1 - sparsity) ** (k / cycles) for k in range(1, cycles + 1)]
        assert values == pytest.approx(wanted, abs=1e-12)
        for number, step in enumerate(table, 1):
            assert abs(step - number * steps / (cycles + 1)) <= 0.5


@given(st.integers(1, 30), st.integers(1, 400))
def test_phases_tile_the_run_and_end_where_it_cuts(cycles: int, steps: int) -> None:
    policy = Cycles(cycles=cycles)
    begins = []
    step = 0
    while step < steps:
        first, length = policy.phase(step, steps)
        assert first == step
        assert length >= 1
        assert {policy.phase(step + k, steps) for k in range(length)} == {(first, length)}
        begins.append(first)
        step += length
    assert step == steps
    cuts = [step for step in timetable(policy, steps, 0.9) if step < steps]
    assert begins == [0, *cuts]


@pytest.mark.parametrize("rewind", ["rate", "weights"])
def test_it_rewinds_after_each_cut_that_training_follows(rewind: str) -> None:
    for cycles, steps in [(1, 2), (3, 40), (25, 100), (25, 10), (4, 1)]:
        policy = Cycles(cycles=cycles, rewind=rewind)
        rewinds = {s: policy.rewind_after(s, steps) for s in range(1, steps + 1)}
        cuts = timetable(policy, steps, 0.9)
        for step, what in rewinds.items():
            assert what == (rewind if step in cuts and step < steps else None)


@pytest.mark.parametrize(
    ("store", "steps", "wanted"),
    [(0.0, 40, [0]), (0.1, 40, [1]), (0.5, 40, [5]), (0.99, 40, [9]), (0.09, 40, [0])],
)
def test_it_stores_once_early_in_the_first_phase(
    store: float, steps: int, wanted: list[int]
) -> None:
    policy = Cycles(cycles=3, rewind="weights", store=store)  # phases of 10 steps
    assert [s for s in range(steps + 1) if policy.stores_after(s, steps)] == wanted
    rates = Cycles(cycles=3, rewind="rate", store=store)
    assert not any(rates.stores_after(s, steps) for s in range(steps + 1))


@given(st.integers(1, 30), st.integers(1, 200), st.floats(0, 1, exclude_max=True))
def test_what_it_rewinds_to_is_always_stored_before(cycles: int, steps: int, store: float) -> None:
    policy = Cycles(cycles=cycles, rewind="weights", store=store)
    stored = [s for s in range(steps + 1) if policy.stores_after(s, steps)]
    assert len(stored) == 1
    rewinds = [s for s in range(1, steps + 1) if policy.rewind_after(s, steps) is not None]
    assert all(stored[0] < step for step in rewinds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cycles": 0}, "cycles=0 is too few: use at least 1"),
        ({"rewind": "both"}, r"rewind='both' is unknown: use one of \('rate', 'weights'\)"),
        ({"store": 1.0}, r"store=1\.0 is not a part of the first phase: use a number in \[0, 1\)"),
        ({"store": -0.1}, r"store=-0\.1 is not a part"),
        ({"store": math.nan}, "store=nan is not a part"),
        ({"scope": "layer"}, "scope='layer' is unknown"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Cycles(**options)
