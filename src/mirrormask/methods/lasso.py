"""L1 penalties: explicit ones, and the one that is implicit in spred's factors."""

from __future__ import annotations

from mirrormask.geometry import Factors
from mirrormask.masking import ProjectAndFreeze
from mirrormask.methods.record import Knob, Method
from mirrormask.optimizer import Recipe
from mirrormask.pressure import Constant

STRENGTH = Knob(
    name="strength",
    default=2e-4,
    low=3e-5,
    high=2e-3,
    summary="half the weight of the L1 penalty",
)

RECORDS = (
    Method(
        name="l1",
        summary="proximal L1 of constant strength, cut at the end",
        source="ISTA; Tibshirani (1996), Beck & Teboulle (2009)",
        build=lambda strength: Recipe(pressure=Constant(strength=strength, application="proximal")),
        knobs=(STRENGTH,),
        reaches="strength",
    ),
    Method(
        name="l1-freeze",
        summary="proximal L1 of constant strength, cut and freeze, then fine-tune",
        source="proximal gradient; the baseline to fear at few steps",
        build=lambda strength: Recipe(
            pressure=Constant(strength=strength, until=0.5, application="proximal"),
            masking=ProjectAndFreeze(at=0.5),
        ),
        knobs=(STRENGTH,),
    ),
    Method(
        name="l1-subgradient",
        summary="L1 term in the loss, cut at the end",
        source="folklore; what most people try first",
        build=lambda strength: Recipe(
            pressure=Constant(strength=strength, application="subgradient")
        ),
        knobs=(STRENGTH,),
        reaches="strength",
    ),
    Method(
        name="l1-subgradient-freeze",
        summary="L1 term in the loss, cut and freeze, then fine-tune",
        source="folklore; Han et al. (NeurIPS 2015) with L1",
        build=lambda strength: Recipe(
            pressure=Constant(strength=strength, until=0.5, application="subgradient"),
            masking=ProjectAndFreeze(at=0.5),
        ),
        knobs=(STRENGTH,),
    ),
    Method(
        name="spred",
        summary="m*w factors from m = |w|, constant pressure, cut at the end: exact LASSO",
        source="Ziyin & Wang (ICML 2023)",
        build=lambda strength: Recipe(
            geometry=Factors(beta=0.0), pressure=Constant(strength=strength)
        ),
        knobs=(
            Knob(
                name="strength",
                default=2e-3,
                low=1e-4,
                high=3e-2,
                summary="half the weight of the L1 penalty",
            ),
        ),
        reaches="strength",
    ),
)
