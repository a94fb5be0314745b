"""What paired runs can say: means with intervals, differences, and who cannot be told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import stats

from mirrormask.errors import ArgumentError

LEVEL = 0.95
"""Confidence of all intervals; 1 - LEVEL is the risk of the tests."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean and how sure it is.

    Attributes:
        mean: Of the values.
        low: Lower end of the t-interval; with a single value it is not known and NaN.
        high: Upper end.
        count: Number of values.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A paired difference to a reference.

    Attributes:
        estimate: Mean difference with its own t-interval.
        simultaneous: The same with an interval that holds together with those of the family
            (Bonferroni).
        p: Two-sided p-value of a paired t-test.
        adjusted: The same after Holm's step-down over the family.
    """

    estimate: Estimate
    simultaneous: Estimate
    p: float
    adjusted: float

    @property
    def differs(self) -> bool:
        """Whether it differs from 0 at the level of the family."""
        return self.adjusted < 1.0 - LEVEL


def t_interval(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """Return the mean with Student's interval.

    Args:
        values: At least one.
        level: Confidence, in (0, 1).

    Raises:
        ArgumentError: If there is no value.

    Example:
        >>> found = t_interval([1.0, 2.0, 3.0])
        >>> found.mean, round(found.half, 3)
        (2.0, 2.484)
    """
    if not values:
        raise ArgumentError("No value has no mean: give at least one.")
    mean, count = fmean(values), len(values)
    if count == 1:
        return Estimate(mean=mean, low=math.nan, high=math.nan, count=1)
    half = float(stats.t.ppf(0.5 + level / 2, count - 1)) * stdev(values) / math.sqrt(count)
    return Estimate(mean=mean, low=mean - half, high=mean + half, count=count)


def paired_p(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of a paired t-test, 1 if nothing can be told.

    Differences that are all the same number other than 0 give 0, and all 0 give 1.

    Example:
        >>> round(paired_p([1.0, 2.0, 3.0]), 4)
        0.0742
    """
    if len(differences) < 2:
        return 1.0
    mean, spread = fmean(differences), stdev(differences)
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    t = mean / (spread / math.sqrt(len(differences)))
    return float(2 * stats.t.sf(abs(t), len(differences) - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's step-down method.

    Source: Holm (1979).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    count = len(p_values)
    adjusted = [0.0] * count
    highest = 0.0
    for rank, place in enumerate(sorted(range(count), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def differences_to(
    reference: str, values: Mapping[str, Mapping[int, float]]
) -> dict[str, Difference]:
    """Compare everybody with one, seed by seed; they form one family of tests.

    Args:
        reference: One of the names in ``values``.
        values: By name and seed. Only seeds that both have are used.

    Returns:
        One difference a name, reference and names without a common seed left out.
    """
    paired = {
        name: [
            found[seed] - values[reference][seed]
            for seed in sorted(found)
            if seed in values[reference]
        ]
        for name, found in values.items()
        if name != reference
    }
    paired = {name: gaps for name, gaps in paired.items() if gaps}
    p_values = {name: paired_p(gaps) for name, gaps in paired.items()}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    together = 1.0 - (1.0 - LEVEL) / max(1, len(paired))
    return {
        name: Difference(
            estimate=t_interval(gaps),
            simultaneous=t_interval(gaps, together),
            p=p_values[name],
            adjusted=adjusted[name],
        )
        for name, gaps in paired.items()
    }


@dataclass(frozen=True, kw_only=True)
class Winner:
    """Who is best at one point.

    Attributes:
        name: Of the highest mean.
        mean: It.
        tied: Names that cannot be told from it, best first.
    """

    name: str
    mean: float
    tied: tuple[str, ...]


def winner(values: Mapping[str, Mapping[int, float]]) -> Winner:
    """Return the name of the highest mean, and those that paired tests cannot tell from it.

    The tests compare everybody with the winner, and are adjusted by Holm's method. Since the
    winner is picked by the same data they favour calling others different rather than tied.

    Args:
        values: By name and seed; at least one.
    """
    means = {name: fmean(found.values()) for name, found in values.items()}
    order = sorted(means, key=lambda name: -means[name])
    best = order[0]
    gaps = differences_to(best, values)
    tied = [name for name in order[1:] if name not in gaps or not gaps[name].differs]
    return Winner(name=best, mean=means[best], tied=tuple(tied))


def mean_ranks(points: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return each name's mean rank over several points, 1 for the best.

    Names with equal values share the mean of their ranks. Only names that are at every point are
    ranked, among themselves.

    Args:
        points: Higher is better.

    Example:
        >>> mean_ranks([{"a": 0.9, "b": 0.8}, {"a": 0.7, "b": 0.7, "c": 0.1}])
        {'a': 1.25, 'b': 1.75}
    """
    if not points:
        return {}
    names = [name for name in points[0] if all(name in point for point in points)]
    totals = dict.fromkeys(names, 0.0)
    for point in points:
        ranks = stats.rankdata([-point[name] for name in names])
        for name, rank in zip(names, ranks, strict=True):
            totals[name] += float(rank)
    ranked = {name: total / len(points) for name, total in totals.items()}
    return dict(sorted(ranked.items(), key=lambda item: item[1]))
