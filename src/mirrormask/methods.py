"""The registry of named methods: each a geometry, a pressure and a masking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mirrormask.errors import ArgumentError
from mirrormask.geometry import Euclidean, Factors, Mirror
from mirrormask.masking import AtEnd, GradualCubic, ProjectAndFreeze
from mirrormask.names import unknown_name
from mirrormask.optimizer import Recipe
from mirrormask.pressure import Algorithm1, Constant, SeekTarget


@dataclass(frozen=True, kw_only=True)
class Method:
    """A named recipe.

    Attributes:
        name: What callers write.
        summary: One line on what it does.
        source: Where it comes from.
        recipe: Its three parts.
    """

    name: str
    summary: str
    source: str
    recipe: Recipe

    @property
    def keeps_weight_decay(self) -> bool:
        """Whether the caller's own weight decay keeps its meaning under this method."""
        return self.recipe.geometry.keeps_weight_decay


def method(name: str) -> Method:
    """Return the method of this name.

    Raises:
        ArgumentError: If there is none; the message holds the nearest and all names.

    Example:
        >>> method("pilot").recipe.geometry
        Factors(beta=1.0)
    """
    if name not in METHODS:
        raise ArgumentError(unknown_name("method", name, METHODS))
    return METHODS[name]


_RECORDS = (
    Method(
        name="pilot",
        summary="m*w factors, proximal pressure that seeks the target, gradual cut, fine-tuning",
        source="Jacobs & Burkholz (ICLR 2025), with a target-seeking controller",
        recipe=Recipe(
            geometry=Factors(beta=1.0),
            pressure=SeekTarget(until=0.5),
            masking=GradualCubic(begin=0.1, end=0.5),
            rebalance=(0.5,),
        ),
    ),
    Method(
        name="pilot-mirror",
        summary="the same by mirror steps, without a second copy of the weights",
        source="Jacobs & Burkholz (ICLR 2025), discretised in the dual",
        recipe=Recipe(
            geometry=Mirror(a=0.5),
            pressure=SeekTarget(until=0.5),
            masking=GradualCubic(begin=0.1, end=0.5),
            rebalance=(0.5,),
        ),
    ),
    Method(
        name="pilot-paper",
        summary="the paper's form: m*w factors, Algorithm 1, cut at the end",
        source="Jacobs & Burkholz (ICLR 2025), Algorithm 1",
        recipe=Recipe(geometry=Factors(beta=1.0), pressure=Algorithm1()),
    ),
    Method(
        name="spred",
        summary="m*w factors from m = |w|, constant pressure, cut at the end: exact LASSO",
        source="Ziyin & Wang (ICML 2023)",
        recipe=Recipe(geometry=Factors(beta=0.0), pressure=Constant(strength=1e-4)),
    ),
    Method(
        name="l1-freeze",
        summary="proximal L1 of constant strength, cut and freeze, then fine-tune",
        source="proximal gradient; the baseline to fear at few steps",
        recipe=Recipe(
            geometry=Euclidean(),
            pressure=Constant(strength=5e-5, until=0.5, application="proximal"),
            masking=ProjectAndFreeze(at=0.5),
        ),
    ),
    Method(
        name="gmp",
        summary="gradual magnitude pruning along a cubic ramp",
        source="Zhu & Gupta (2017)",
        recipe=Recipe(masking=GradualCubic()),
    ),
    Method(
        name="magnitude",
        summary="dense training, the smallest magnitudes cut at the end",
        source="folklore; the floor that others must clear",
        recipe=Recipe(masking=AtEnd()),
    ),
)

METHODS: Mapping[str, Method] = MappingProxyType({record.name: record for record in _RECORDS})
"""All methods by name, in the order in which they are listed."""
