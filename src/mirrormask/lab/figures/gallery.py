"""All figures of the page, in reading order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from mirrormask.lab.figures import (
    bending,
    budget,
    flips,
    network,
    noise,
    regularisers,
    schedules,
    start,
    stochastic,
)
from mirrormask.lab.figures.figure import Figure, Settings, Tick
from mirrormask.lab.figures.study import Study
from mirrormask.lab.regression import Run

FIGURES: Mapping[str, Callable[[Study, Tick], Figure]] = MappingProxyType(
    {
        "bending": bending.draw,
        "start": start.draw,
        "regularisers": regularisers.draw,
        "schedules": schedules.draw_fast,
        "slow-schedules": schedules.draw_slow,
        "budget": budget.draw,
        "stochastic": stochastic.draw,
        "network": network.draw,
        "noise": noise.draw,
        "flips": flips.draw,
    }
)
"""The figures by name; the page shows them in this order."""

PLANS: Mapping[str, Callable[[Settings], list[Run]]] = MappingProxyType(
    {
        "start": start.plan,
        "regularisers": regularisers.plan,
        "schedules": schedules.plan_fast,
        "slow-schedules": schedules.plan_slow,
        "budget": budget.plan,
    }
)
"""The descents that figures share, by name of the figure."""


def study_for(names: Iterable[str], settings: Settings) -> Study:
    """Return a study that has planned all the descents of these figures.

    Example:
        >>> study_for(["start"], Settings(seeds=2, steps=100)).settings.seeds
        2
    """
    return Study(
        settings, [run for name in names if name in PLANS for run in PLANS[name](settings)]
    )
