"""A random mask, drawn once before training."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mirrormask.masking.budget import Scope
from mirrormask.masking.policy import Candidates, Masking
from mirrormask.ranks import draw


@dataclass(frozen=True, kw_only=True)
class StaticRandom(Masking):
    """Cut at random before the first step, and never again.

    Source: Liu et al., "The Unreasonable Effectiveness of Random Pruning" (ICLR 2022); budgets of
    layers after Evci et al. (ICML 2020).

    Example:
        >>> [StaticRandom().cut_after(step, 2, 0.9) for step in range(3)]
        [0.9, None, None]
    """

    scope: Scope = "erk"

    def __post_init__(self) -> None:
        self.refuse_scores("draws at random")
        super().__post_init__()

    def cut_after(self, step: int, steps: int, sparsity: float) -> float | None:
        """Return the target before training."""
        return sparsity if step == 0 else None

    def choose(self, candidates: Candidates, sparsity: float) -> list[Tensor]:
        """Return masks drawn from the run's own generator."""
        return self.pattern.keep(random_scores(candidates), sparsity, self.scope)


def random_scores(candidates: Candidates) -> list[Tensor]:
    """Return a uniform draw for each weight, in the shapes and on the devices of the weights."""
    return [draw(tensor, candidates.generator) for tensor in candidates.magnitudes]
