"""Zeros that are learned: thresholds that rise under decay, gates that shut."""

from __future__ import annotations

from mirrormask.geometry import Gate, SoftThreshold
from mirrormask.methods.record import Knob, Method
from mirrormask.optimizer import Recipe
from mirrormask.pressure import Constant

RECORDS = (
    Method(
        name="str",
        summary="a learned soft threshold for each tensor, cut at the end",
        source="Kusupati et al., Soft Threshold Weight Reparameterization (ICML 2020)",
        build=lambda strength: Recipe(
            geometry=SoftThreshold(), pressure=Constant(strength=strength)
        ),
        knobs=(
            Knob(
                name="strength",
                default=2e-2,
                low=2e-3,
                high=1e-1,
                summary="half the weight decay of weights and thresholds",
            ),
        ),
        reaches="strength",
    ),
    Method(
        name="cs",
        summary="a learned gate for each weight, ever steeper, L1 on the gates, cut at the end",
        source="Savarese et al., Continuous Sparsification (NeurIPS 2020)",
        build=lambda strength, initial: Recipe(
            geometry=Gate(initial=initial), pressure=Constant(strength=strength)
        ),
        knobs=(
            Knob(
                name="strength",
                default=1e-4,
                low=1e-5,
                high=1e-3,
                summary="half the weight of the L1 penalty on the gates",
            ),
            Knob(
                name="initial",
                default=0.0,
                low=-0.3,
                high=0.3,
                log=False,
                summary="state of all gates at the start",
            ),
        ),
        reaches="strength",
    ),
)
