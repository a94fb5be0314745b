"""All figures of the page, in reading order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

FIGURES: Mapping[str, Callable[[Settings, Tick], Figure]] = MappingProxyType(
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
