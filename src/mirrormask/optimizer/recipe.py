"""A sparse-training recipe: one geometry, one pressure, one masking."""

from __future__ import annotations

from dataclasses import dataclass, field

from mirrormask.errors import ArgumentError
from mirrormask.geometry import Euclidean, Geometry
from mirrormask.masking import AtEnd, Masking
from mirrormask.pressure import NoPressure, Pressure


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to do with the selected weights during a run.

    Args:
        geometry: How a weight is represented and moves.
        pressure: How strongly it is pulled to zero, over time.
        masking: When weights are cut, and which.
        rebalance: Fractions of the run, each in (0, 1], after which the latents are split anew at
            an unchanged weight, so that the metric is that of the start again.

    Raises:
        ArgumentError: If a fraction is outside (0, 1].

    Example:
        >>> from mirrormask.geometry import Factors
        >>> from mirrormask.masking import ProjectAndFreeze
        >>> from mirrormask.pressure import SeekTarget
        >>> recipe = Recipe(
        ...     geometry=Factors(), pressure=SeekTarget(), masking=ProjectAndFreeze(at=0.6)
        ... )
    """

    geometry: Geometry = field(default_factory=Euclidean)
    pressure: Pressure = field(default_factory=NoPressure)
    masking: Masking = field(default_factory=AtEnd)
    rebalance: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for fraction in self.rebalance:
            if not 0 < fraction <= 1:
                raise ArgumentError(
                    f"rebalance={self.rebalance} holds {fraction}: use fractions in (0, 1]."
                )

    def rebalances_after(self, step: int, steps: int) -> bool:
        """Return whether the latents are split anew after ``step`` steps of ``steps``."""
        return any(step == max(1, round(fraction * steps)) for fraction in self.rebalance)
