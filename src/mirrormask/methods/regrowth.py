"""Masks that move, and masks that are random: alternating phases, drop and grow, static."""

from __future__ import annotations

from mirrormask.geometry import Factors
from mirrormask.masking import ACDC, SET, RigL, StaticRandom
from mirrormask.methods.record import Knob, Method
from mirrormask.optimizer import Recipe
from mirrormask.pressure import SeekTarget

CYCLES = Knob(
    name="cycles",
    default=4,
    low=1,
    high=8,
    log=False,
    whole=True,
    summary="pairs of a compressed and a dense phase",
)
FRACTION = Knob(
    name="fraction",
    default=0.3,
    low=0.1,
    high=0.6,
    log=False,
    summary="part of the kept weights that the first update replaces",
)
UPDATES = Knob(
    name="updates",
    default=20,
    low=5,
    high=80,
    whole=True,
    summary="number of updates of the mask",
)


def resets(number: int) -> tuple[float, ...]:
    """Return so many fractions of a run, evenly spaced over its first half."""
    return tuple(0.5 * (k + 1) / number for k in range(number))


RECORDS = (
    Method(
        name="acdc",
        summary="compressed and dense phases in turn, a long compressed one at the end",
        source="Peste et al. (NeurIPS 2021)",
        build=lambda cycles, final: Recipe(masking=ACDC(cycles=cycles, final=final)),
        knobs=(
            CYCLES,
            Knob(
                name="final",
                default=0.25,
                low=0.1,
                high=0.6,
                summary="part of the run after the last compression",
            ),
        ),
    ),
    Method(
        name="pilot-acdc",
        summary="AC/DC inside PILoT's geometry and pressure",
        source="a combination of Peste et al. (2021) and Jacobs & Burkholz (2025)",
        build=lambda cycles, push: Recipe(
            geometry=Factors(beta=1.0),
            pressure=SeekTarget(until=0.5, push=push),
            masking=ACDC(cycles=cycles, final=0.5),
            rebalance=(0.5,),
        ),
        knobs=(
            CYCLES,
            Knob(
                name="push",
                default=0.5,
                low=0.1,
                high=1.0,
                log=False,
                summary="multiple of the pressure that would just reach the target",
            ),
        ),
    ),
    Method(
        name="rigl",
        summary="drop by magnitude, grow by gradient, ERK budgets of layers",
        source="Evci et al. (ICML 2020)",
        build=lambda fraction, updates: Recipe(masking=RigL(fraction=fraction, updates=updates)),
        knobs=(FRACTION, UPDATES),
    ),
    Method(
        name="rigl-uniform",
        summary="drop by magnitude, grow by gradient, the same sparsity in every layer",
        source="Evci et al. (ICML 2020)",
        build=lambda fraction, updates: Recipe(
            masking=RigL(scope="uniform", fraction=fraction, updates=updates)
        ),
        knobs=(FRACTION, UPDATES),
    ),
    Method(
        name="set",
        summary="drop by magnitude, grow at random, ERK budgets of layers",
        source="Mocanu et al. (Nature Communications 2018)",
        build=lambda fraction, updates: Recipe(masking=SET(fraction=fraction, updates=updates)),
        knobs=(FRACTION, UPDATES),
    ),
    Method(
        name="random",
        summary="a random mask with ERK budgets, fixed before training",
        source="Liu et al. (ICLR 2022)",
        build=lambda: Recipe(masking=StaticRandom()),
    ),
    Method(
        name="sign-in",
        summary="a random mask, m*w factors balanced anew several times, so that signs can flip",
        source="Gadhikar, Jacobs, Zhou & Burkholz, Sign-In (2025)",
        build=lambda count: Recipe(
            geometry=Factors(beta=1.0), masking=StaticRandom(), rebalance=resets(count)
        ),
        knobs=(
            Knob(
                name="count",
                default=4,
                low=1,
                high=12,
                whole=True,
                summary="how often the factors are balanced anew, in the first half of the run",
            ),
        ),
    ),
)
