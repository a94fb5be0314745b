"""Statistics against scipy's own tests, published examples and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mirrormask.errors import ArgumentError
from mirrormask.study.compare.statistics import (
    differences_to,
    holm,
    mean_ranks,
    paired_p,
    t_interval,
    winner,
)

VALUES = st.lists(st.floats(0, 1).map(lambda x: round(x, 4)), min_size=2, max_size=9)


@given(VALUES, st.sampled_from([0.8, 0.95, 0.999]))
def test_t_interval_is_scipys(values: list[float], level: float) -> None:
    found = t_interval(values, level)
    assert found.mean == pytest.approx(np.mean(values))
    if np.std(values) > 1e-9:
        low, high = stats.ttest_1samp(values, 0.0).confidence_interval(level)
        assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_one_value_has_no_interval_and_none_no_mean() -> None:
    assert math.isnan(t_interval([0.5]).half)
    with pytest.raises(ArgumentError):
        t_interval([])


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=8))
def test_paired_p_is_scipys(pairs: list[tuple[int, int]]) -> None:
    ours, theirs = (np.array(side, float) for side in zip(*pairs, strict=True))
    gaps = ours - theirs
    if gaps.std() > 0:
        assert paired_p(list(gaps)) == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)


def test_paired_p_at_its_edges() -> None:
    assert paired_p([0.3]) == 1.0
    assert paired_p([0.0, 0.0]) == 1.0
    assert paired_p([0.25, 0.25]) == 0.0


def test_holm_as_defined() -> None:
    # Step-down: 4 * .005, then 3 * .01, 2 * .03, 1 * .04, each at least what came before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_raw_and_bonferroni(raw: list[float]) -> None:
    for p, adjusted in zip(raw, holm(raw), strict=True):
        assert p <= adjusted <= min(1.0, len(raw) * p) + 1e-12 or adjusted <= len(raw) * max(raw)
        assert p <= adjusted <= 1.0
    order = np.argsort(raw, kind="stable")
    assert list(np.array(holm(raw))[order]) == sorted(holm(raw))


def test_differences_pair_by_seed() -> None:
    values = {
        "ref": {0: 0.80, 1: 0.60, 2: 0.70},
        "up": {0: 0.81, 1: 0.62, 2: 0.73},
        "short": {1: 0.61, 2: 0.71, 9: 0.1},
    }
    found = differences_to("ref", values)
    assert list(found) == ["up", "short"]
    assert found["up"].estimate.mean == pytest.approx(0.02)
    # Spread of .01, .02, .03 is .01 whatever the spread between seeds.
    half = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    assert found["up"].estimate.half == pytest.approx(half)
    wide = stats.t.ppf(1 - 0.05 / 2 / 2, 2) * 0.01 / math.sqrt(3)
    assert found["up"].simultaneous.half == pytest.approx(wide)
    assert found["short"].estimate.count == 2
    assert found["up"].adjusted == pytest.approx(
        stats.ttest_rel(list(values["up"].values()), list(values["ref"].values())).pvalue
    )


def test_winner_and_those_that_cannot_be_told_from_it() -> None:
    seeds = range(5)
    noise = [0.000, 0.004, -0.003, 0.002, -0.001]
    values = {
        "worse": {s: 0.80 + noise[s] for s in seeds},
        "best": {s: 0.90 + noise[s] for s in seeds},
        "close": {s: 0.899 - noise[s] for s in seeds},
    }
    found = winner(values)
    assert found.name == "best"
    assert found.tied == ("close",)
    assert found.mean == pytest.approx(0.9004)
    assert winner({"only": {0: 0.5}}).tied == ()


def test_mean_ranks_share_ties_and_skip_the_incomplete() -> None:
    points = [{"a": 3.0, "b": 2.0, "c": 1.0, "d": 9.0}, {"a": 1.0, "b": 2.0, "c": 2.0}]
    assert mean_ranks(points) == {"b": 1.75, "a": 2.0, "c": 2.25}
    assert mean_ranks([]) == {}
