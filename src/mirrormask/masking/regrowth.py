"""Drop and grow: a sparse net whose connections move while it trains."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.masking.budget import Scope
from mirrormask.masking.exact import keep_largest
from mirrormask.masking.pattern import Unstructured
from mirrormask.masking.policy import Candidates, Masking
from mirrormask.masking.static import random_scores
from mirrormask.ranks import count_true


@dataclass(frozen=True, kw_only=True)
class Regrowth(Masking):
    """Start from a random mask; now and then drop small weights and grow as many others at zero.

    An update in step ``t`` replaces ``fraction / 2 * (1 + cos(pi t / t_end))`` of the weights that
    each tensor keeps, so the number that it keeps never changes.

    Args:
        fraction: Part of the kept weights that the first update replaces, in (0, 1).
        updates: Number of updates, evenly spaced.
        until: Fraction of the run after which there are none, in (0, 1].

    Raises:
        ArgumentError: If a number is outside its domain, or the pattern is a structured one.
    """

    scope: Scope = "erk"
    fraction: float = 0.3
    updates: int = 20
    until: float = 0.75

    def __post_init__(self) -> None:
        self.refuse_scores("drops by magnitude inside each tensor")
        super().__post_init__()
        if not 0 < self.fraction < 1:
            raise ArgumentError(f"fraction={self.fraction} is not a part: use a number in (0, 1).")
        if self.updates < 1:
            raise ArgumentError(f"updates={self.updates} is too few: use at least 1.")
        if not 0 < self.until <= 1:
            raise ArgumentError(
                f"until={self.until} is not a part of the run: use a number in (0, 1]."
            )
        if self.pattern != Unstructured():
            raise ArgumentError(
                f"{type(self).__name__} moves single weights: leave pattern={self.pattern} out."
            )

    def cut_after(self, step: int, steps: int, sparsity: float) -> float | None:
        """Return the target before training and at each update."""
        return sparsity if step == 0 or self._updates_after(step, steps) else None

    def choose(self, candidates: Candidates, sparsity: float) -> list[Tensor]:
        """Return a random mask before training; later, the one in force with some replaced."""
        if candidates.step == 0:
            return self.pattern.keep(random_scores(candidates), sparsity, self.scope)
        done = candidates.step / (self.until * candidates.steps)
        fraction = self.fraction / 2 * (1.0 + math.cos(math.pi * min(1.0, done)))
        return [
            drop_and_grow(magnitude, kept, growth, fraction)
            for magnitude, kept, growth in zip(
                candidates.magnitudes, candidates.kept, self.growth(candidates), strict=True
            )
        ]

    @abstractmethod
    def growth(self, candidates: Candidates) -> Sequence[Tensor]:
        """Return how much each weight deserves to be grown, in the shapes of the weights."""

    def _updates_after(self, step: int, steps: int) -> bool:
        """Return whether one or more points of the grid of updates went by in this step."""
        if not 0 < step < min(steps, self.until * steps + 1):
            return False
        return self._points_up_to(step, steps) > self._points_up_to(step - 1, steps)

    def _points_up_to(self, step: int, steps: int) -> int:
        # A point that falls on a step must not be missed by a rounding error.
        return math.floor(step * self.updates / (self.until * steps) + 1e-9)


@dataclass(frozen=True, kw_only=True)
class RigL(Regrowth):
    """Grow where the gradient is largest, also among the weights that are cut.

    Source: Evci et al., "Rigging the Lottery: Making All Tickets Winners" (ICML 2020).

    Example:
        >>> policy = RigL(updates=3, until=0.75)
        >>> [policy.cut_after(step, 8, 0.9) for step in range(9)]
        [0.9, None, 0.9, None, 0.9, None, 0.9, None, None]
    """

    def needs_gradients(self, step: int, steps: int) -> bool:
        """Return whether there is an update after this step."""
        return self._updates_after(step, steps)

    def growth(self, candidates: Candidates) -> Sequence[Tensor]:
        """Return the sizes of the dense gradients."""
        if candidates.gradients is None:
            raise LookupError("RigL grows by gradients, and none were kept in this step.")
        return candidates.gradients


@dataclass(frozen=True, kw_only=True)
class SET(Regrowth):
    """Grow at random.

    The paper replaces the smallest positive and the largest negative weights; like most later
    work this drops by magnitude.

    Source: Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse
    connectivity" (Nature Communications 2018).
    """

    def growth(self, candidates: Candidates) -> Sequence[Tensor]:
        """Return a draw from the run's own generator."""
        return random_scores(candidates)


def drop_and_grow(magnitude: Tensor, kept: Tensor, growth: Tensor, fraction: float) -> Tensor:
    """Return a mask with as many kept weights, of which a part is new.

    The smallest kept ones are dropped; then the best of all that are not kept, the dropped ones
    among them, are grown. Of equals the last ones are kept and grown, so that all ranks choose
    alike.

    Args:
        magnitude: Non-negative, any shape.
        kept: The mask in force, same shape.
        growth: Score of each weight, same shape.
        fraction: Part of the kept weights to replace, rounded down to whole weights.

    Example:
        >>> drop_and_grow(
        ...     torch.tensor([3.0, 1.0, 0.0, 0.0]),
        ...     torch.tensor([True, True, False, False]),
        ...     torch.tensor([0.0, 0.1, 0.2, 0.9]),
        ...     fraction=0.5,
        ... )
        tensor([ True, False, False,  True])
    """
    size = int(count_true([kept]))
    moved = math.floor(fraction * size)
    if moved == 0:
        return kept.clone()
    worth = torch.where(kept, magnitude, -1.0)
    stays = keep_largest([worth], kept.numel() - (size - moved))[0]
    score = torch.where(stays, -torch.inf, growth.to(torch.float64))
    return stays | keep_largest([score], kept.numel() - moved)[0]
