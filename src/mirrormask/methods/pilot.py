"""PILoT: implicit sparsification by a mirror flow, or by the m*w factors that follow it."""

from __future__ import annotations

from mirrormask.geometry import Factors, Geometry, Mirror, ScaledMirror
from mirrormask.masking import GradualCubic
from mirrormask.methods.record import Knob, Method
from mirrormask.optimizer import RateBoost, Recipe
from mirrormask.pressure import Algorithm1, SeekTarget


def seeking(geometry: Geometry, push: float) -> Recipe:
    """Return the target form: pressure and a gradual cut that arrive together, then fine-tuning."""
    return Recipe(
        geometry=geometry,
        pressure=SeekTarget(until=0.5, push=push),
        masking=GradualCubic(begin=0.1, end=0.5),
        rebalance=(0.5,),
    )


def by_saliency(geometry: Geometry, push: float) -> Recipe:
    """Return the default form: as :func:`seeking`, but cut by what a weight means to the loss."""
    return Recipe(
        geometry=geometry,
        pressure=SeekTarget(until=0.6, push=push, slack=10.0, bound=1.0),
        masking=GradualCubic(begin=0.1, end=0.6, score="saliency", floor=0.1),
        boost=RateBoost(),
    )


PUSH = Knob(
    name="push",
    default=0.7,
    low=0.2,
    high=1.5,
    log=False,
    summary="multiple of the pressure that would just reach the target without gradients",
)

RECORDS = (
    Method(
        name="pilot",
        summary="mirror flow, pressure that seeks the target, cut by saliency, rate by density",
        source="Jacobs & Burkholz (ICLR 2025), with a target-seeking controller",
        build=lambda push, width: by_saliency(ScaledMirror(width=width), push),
        knobs=(
            Knob(
                name="push",
                default=1.0,
                low=0.2,
                high=2.0,
                log=False,
                summary="multiple of the pressure that would just reach the target without "
                "gradients",
            ),
            Knob(
                name="width",
                default=3.0,
                low=1.5,
                high=12.0,
                summary="scale of the mirror in units of a layer's typical weight",
            ),
        ),
    ),
    Method(
        name="pilot-factors",
        summary="m*w factors, proximal pressure that seeks the target, gradual cut, fine-tuning",
        source="Jacobs & Burkholz (ICLR 2025), with a target-seeking controller",
        build=lambda push: seeking(Factors(beta=1.0), push),
        knobs=(PUSH,),
    ),
    Method(
        name="pilot-mirror",
        summary="the same by mirror steps, without a second copy of the weights",
        source="Jacobs & Burkholz (ICLR 2025), discretised in the dual",
        build=lambda push: seeking(Mirror(a=0.5), push),
        knobs=(PUSH,),
    ),
    Method(
        name="pilot-paper",
        summary="the paper's form: m*w factors, Algorithm 1, cut at the end",
        source="Jacobs & Burkholz (ICLR 2025), Algorithm 1",
        build=lambda alpha: Recipe(
            geometry=Factors(beta=1.0), pressure=Algorithm1(alpha_init=alpha)
        ),
        knobs=(
            Knob(
                name="alpha",
                default=2e-3,
                low=1e-4,
                high=3e-2,
                summary="strength in the first epoch; the controller moves it from there",
            ),
        ),
        reaches="strength",
    ),
)
