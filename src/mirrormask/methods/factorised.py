"""Weights as products and powers: deep factors, powerpropagation."""

from __future__ import annotations

from mirrormask.geometry import Depth, Power
from mirrormask.masking import GradualCubic
from mirrormask.methods.record import Knob, Method
from mirrormask.optimizer import Recipe
from mirrormask.pressure import Constant


def deep(factors: int) -> Method:
    """Return the record of deep weight factorisation with so many factors."""
    return Method(
        name=f"dwf-{factors}",
        summary=f"product of {factors} factors from a random start, weight decay, cut at the end",
        source="Kolb et al., Deep Weight Factorization (ICLR 2025)",
        build=lambda strength: Recipe(
            geometry=Depth(factors=factors), pressure=Constant(strength=strength)
        ),
        knobs=(
            Knob(
                name="strength",
                default=3e-3,
                low=3e-4,
                high=2e-2,
                summary="half the weight decay of the factors",
            ),
        ),
        reaches="strength",
    )


RECORDS = (
    deep(2),
    deep(3),
    deep(4),
    Method(
        name="powerprop",
        summary="weights as signed powers, gradual magnitude pruning",
        source="Schwarz et al., Powerpropagation (NeurIPS 2021)",
        build=lambda p: Recipe(geometry=Power(p=p), masking=GradualCubic(begin=0.2, end=0.7)),
        knobs=(Knob(name="p", default=2.0, low=1.2, high=4.0, summary="exponent"),),
    ),
)
