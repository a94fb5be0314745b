"""A sparse-training recipe: one geometry, one pressure, one masking, and how rates follow."""

from __future__ import annotations

from dataclasses import dataclass, field

from mirrormask.errors import ArgumentError
from mirrormask.geometry import Euclidean, Geometry
from mirrormask.masking import AtEnd, Masking
from mirrormask.optimizer.rate_boost import RateBoost
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
        boost: How much faster layers learn as they get sparser; None for not at all.

    Raises:
        ArgumentError: If a fraction is outside (0, 1], the pressure takes proximal steps that the
            geometry does not have, or one of the parts asks for increments that it does not move.

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
    boost: RateBoost | None = None

    def __post_init__(self) -> None:
        if self.pressure.application == "proximal" and not self.geometry.reaches_zero:
            raise ArgumentError(
                f"{type(self.geometry).__name__} has no proximal step for "
                f"{type(self.pressure).__name__}: use application='decay' or 'subgradient'."
            )
        if self.pressure.asks_for_pull and not self.geometry.moves_increments:
            raise ArgumentError(
                f"{type(self.geometry).__name__} does not tell how far the optimizer moves its "
                f"weights: leave the bound of {type(self.pressure).__name__} out, or use a mirror."
            )
        if self.boost is not None and not self.geometry.moves_increments:
            raise ArgumentError(
                f"{type(self.geometry).__name__} cannot scale the steps of the optimizer: leave "
                "the boost out, or use a mirror."
            )
        for fraction in self.rebalance:
            if not 0 < fraction <= 1:
                raise ArgumentError(
                    f"rebalance={self.rebalance} holds {fraction}: use fractions in (0, 1]."
                )

    def rebalances_after(self, step: int, steps: int) -> bool:
        """Return whether the latents are split anew after ``step`` steps of ``steps``."""
        first, length = self.masking.phase(step - 1, steps)
        return any(step == first + max(1, round(part * length)) for part in self.rebalance)
