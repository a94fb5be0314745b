"""Plain weights that move by other rules: HAM, decay of any power."""

from __future__ import annotations

from mirrormask.geometry import Hyperbolic, PowerDecay
from mirrormask.masking import GradualCubic
from mirrormask.methods.record import Knob, Method
from mirrormask.optimizer import Recipe
from mirrormask.pressure import Constant

RECORDS = (
    Method(
        name="ham",
        summary="a multiplicative step after each step, gradual magnitude pruning",
        source="Jacobs et al., Hyperbolic Aware Minimization (ICLR 2026)",
        build=lambda strength: Recipe(
            geometry=Hyperbolic(A=strength), masking=GradualCubic(begin=0.2, end=0.7)
        ),
        knobs=(
            Knob(
                name="strength",
                default=20.0,
                low=2.0,
                high=100.0,
                summary="A in the metric 1 + A |x|",
            ),
        ),
    ),
    Method(
        name="pwd",
        summary="decay of |x|^p after each step, cut at the end",
        source="Outmezguine & Levi, Decoupled weight decay for any p norm (2024)",
        build=lambda strength, p: Recipe(
            geometry=PowerDecay(p=p), pressure=Constant(strength=strength)
        ),
        knobs=(
            Knob(
                name="strength",
                default=1e-3,
                low=1e-4,
                high=1e-2,
                summary="half the weight of the penalty |x|^p / p",
            ),
            Knob(name="p", default=0.8, low=0.4, high=1.6, log=False, summary="power"),
        ),
        reaches="strength",
    ),
)
