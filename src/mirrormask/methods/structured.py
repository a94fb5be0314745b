"""Zeros with a structure: N of M, blocks, rows and output channels."""

from __future__ import annotations

from mirrormask.geometry import GroupGate
from mirrormask.masking import Block, GradualCubic, NofM, Rows
from mirrormask.methods.magnitude import END
from mirrormask.methods.record import Knob, Method, Refusal
from mirrormask.optimizer import Recipe
from mirrormask.pressure import Constant

RECORDS = (
    Method(
        name="gmp-2to4",
        summary="gradual magnitude pruning to 2 weights of each 4 inputs",
        source="Mishra et al. (2021), with the ramp of Zhu & Gupta (2017)",
        build=lambda end: Recipe(masking=GradualCubic(begin=0.2, end=end, pattern=NofM(2, 4))),
        knobs=(END,),
        sparsities=(0.5,),
        refuses=(
            Refusal(setting="sparsities other than 0.5", reason="2 of 4 weights are half of them"),
            Refusal(
                setting="weights whose input dimension is no multiple of 4",
                reason="groups of four would not fit; exclude them",
            ),
        ),
    ),
    Method(
        name="gmp-block",
        summary="gradual pruning of 4x4 blocks by mean magnitude",
        source="Narang et al., block-sparse networks (2017), with the ramp of Zhu & Gupta (2017)",
        build=lambda end: Recipe(
            masking=GradualCubic(begin=0.2, end=end, pattern=Block(rows=4, columns=4))
        ),
        knobs=(END,),
    ),
    Method(
        name="gmp-rows",
        summary="gradual pruning of rows and output channels by mean magnitude",
        source="Li et al., pruning filters (ICLR 2017), with the ramp of Zhu & Gupta (2017)",
        build=lambda end: Recipe(masking=GradualCubic(begin=0.2, end=end, pattern=Rows())),
        knobs=(END,),
    ),
    Method(
        name="d-gating",
        summary="a trained gate for each row or channel, L2 on both, gradual cut of rows",
        source="D-Gating: the group form of deep weight factorisation (2025)",
        build=lambda strength: Recipe(
            geometry=GroupGate(depth=2),
            pressure=Constant(strength=strength),
            masking=GradualCubic(begin=0.2, end=0.7, pattern=Rows()),
        ),
        knobs=(
            Knob(
                name="strength",
                default=1e-3,
                low=1e-4,
                high=1e-2,
                summary="half the weight of the group lasso",
            ),
        ),
    ),
)
