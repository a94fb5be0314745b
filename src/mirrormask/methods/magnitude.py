"""Pruning by magnitude alone."""

from __future__ import annotations

from mirrormask.masking import AtEnd, GradualCubic
from mirrormask.methods.record import Knob, Method
from mirrormask.optimizer import Recipe

END = Knob(
    name="end",
    default=0.7,
    low=0.3,
    high=0.9,
    log=False,
    summary="part of the run after which the target is reached",
)

RECORDS = (
    Method(
        name="gmp",
        summary="gradual magnitude pruning along a cubic ramp",
        source="Zhu & Gupta (2017)",
        build=lambda end: Recipe(masking=GradualCubic(begin=0.2, end=end)),
        knobs=(END,),
    ),
    Method(
        name="magnitude",
        summary="dense training, the smallest magnitudes cut at the end",
        source="folklore; the floor that others must clear",
        build=lambda: Recipe(masking=AtEnd()),
    ),
)
