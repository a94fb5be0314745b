"""Iterative pruning: cycles of a cut and a rewind, dense or with PILoT inside."""

from __future__ import annotations

from mirrormask.geometry import Factors
from mirrormask.masking import Cycles, Rewind
from mirrormask.methods.record import Knob, Method
from mirrormask.optimizer import Recipe
from mirrormask.pressure import SeekTarget

CYCLES = Knob(
    name="cycles",
    default=3,
    low=1,
    high=6,
    whole=True,
    log=False,
    summary="number of cuts; there is one phase of training more",
)
PUSH = Knob(
    name="push",
    default=0.3,
    low=0.05,
    high=1.0,
    log=False,
    summary="multiple of the pressure that would reach the target in each cycle",
)


def pilot_in_cycles(rewind: Rewind, cycles: int, push: float) -> Recipe:
    """Return cycles in each of which PILoT presses and balances its factors anew at the end."""
    return Recipe(
        geometry=Factors(beta=1.0),
        pressure=SeekTarget(until=0.5, push=push),
        masking=Cycles(cycles=cycles, rewind=rewind, store=0.1),
        rebalance=(1.0,),
    )


RECORDS = (
    Method(
        name="wr",
        summary="cycles of a cut by magnitude and weights rewound to an early step",
        source="Frankle & Carbin (ICLR 2019), Frankle et al. (ICML 2020)",
        build=lambda cycles: Recipe(masking=Cycles(cycles=cycles, rewind="weights", store=0.1)),
        knobs=(CYCLES,),
    ),
    Method(
        name="lrr",
        summary="cycles of a cut by magnitude and the learning rate rewound",
        source="Renda et al. (ICLR 2020)",
        build=lambda cycles: Recipe(masking=Cycles(cycles=cycles, rewind="rate")),
        knobs=(CYCLES,),
    ),
    Method(
        name="pilot-wr",
        summary="weight rewinding with PILoT's geometry and pressure in each cycle",
        source="Jacobs & Burkholz (ICLR 2025), with a target-seeking controller",
        build=lambda cycles, push: pilot_in_cycles("weights", cycles, push),
        knobs=(CYCLES, PUSH),
    ),
    Method(
        name="pilot-lrr",
        summary="learning-rate rewinding with PILoT's geometry and pressure in each cycle",
        source="Jacobs & Burkholz (ICLR 2025), with a target-seeking controller",
        build=lambda cycles, push: pilot_in_cycles("rate", cycles, push),
        knobs=(CYCLES, PUSH),
    ),
)
