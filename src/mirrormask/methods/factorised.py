"""Weights as products and powers: deep factors, powerpropagation."""

from __future__ import annotations

from mirrormask.geometry import Depth, Power
from mirrormask.masking import AtEnd, GradualCubic, Masking
from mirrormask.methods.record import Knob, Method, Reach
from mirrormask.optimizer import Recipe
from mirrormask.pressure import Constant

KOLB = "Kolb et al., Deep Weight Factorization (ICLR 2025)"


def deep(name: str, summary: str, factors: int, masking: Masking, strength: Knob) -> Method:
    """Return the record of deep weight factorisation with so many factors and this masking."""
    reaches: Reach = "strength" if isinstance(masking, AtEnd) else "mask"
    return Method(
        name=name,
        summary=summary,
        source=KOLB if reaches == "strength" else f"{KOLB}, with a gradual cut",
        build=lambda strength: Recipe(
            geometry=Depth(factors=factors), pressure=Constant(strength=strength), masking=masking
        ),
        knobs=(strength,),
        reaches=reaches,
    )


def strength(default: float, low: float, high: float) -> Knob:
    """Return the knob of the pressure."""
    return Knob(
        name="strength",
        default=default,
        low=low,
        high=high,
        summary="half the weight decay of each factor",
    )


RECORDS = (
    *(
        deep(
            f"dwf-{factors}",
            f"product of {factors} factors from a random start, weight decay, cut at the end",
            factors,
            AtEnd(),
            # What counts is roughly the product with the number of factors.
            strength(default, low=3e-4, high=2e-2),
        )
        for factors, default in ((2, 5e-3), (3, 3e-3), (4, 2e-3))
    ),
    deep(
        "dwf-4-gradual",
        "product of 4 factors from a random start, weak decay, gradual cut, fine-tuning",
        4,
        GradualCubic(begin=0.2, end=0.7),
        strength(3e-4, low=1e-5, high=3e-3),
    ),
    Method(
        name="powerprop",
        summary="weights as signed powers, gradual magnitude pruning",
        source="Schwarz et al., Powerpropagation (NeurIPS 2021)",
        build=lambda p: Recipe(geometry=Power(p=p), masking=GradualCubic(begin=0.2, end=0.7)),
        knobs=(Knob(name="p", default=2.0, low=1.2, high=4.0, summary="exponent"),),
    ),
)
