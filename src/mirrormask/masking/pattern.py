"""Which sets of weights may be zero: the shape that a mask has to have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mirrormask.masking.budget import Scope
from mirrormask.masking.exact import keep_at


class Pattern(ABC):
    """A family of masks, and the choice among them by magnitude or another score."""

    @abstractmethod
    def keep(self, magnitudes: Sequence[Tensor], sparsity: float, scope: Scope) -> list[Tensor]:
        """Return masks of this pattern with exactly the zeros of :func:`keep_at`, True where kept.

        Args:
            magnitudes: Magnitudes or other scores: non-negative tensors of any shapes.
            sparsity: Fraction of zeros over all tensors, in [0, 1).
            scope: Where magnitudes compete.
        """

    def check(self, shapes: Mapping[str, Sequence[int]], sparsity: float) -> None:
        """Refuse, before anything is changed, tensors or sparsities that it cannot have.

        Args:
            shapes: Shape of each tensor by name.
            sparsity: The target.

        Raises:
            ArgumentError: If this pattern does not exist on one of these tensors.
        """


@dataclass(frozen=True)
class Unstructured(Pattern):
    """Any weight may be zero.

    Example:
        >>> import torch
        >>> Unstructured().keep([torch.tensor([3.0, 1.0]), torch.tensor([2.0])], 0.34, "global")
        [tensor([ True, False]), tensor([True])]
    """

    def keep(self, magnitudes: Sequence[Tensor], sparsity: float, scope: Scope) -> list[Tensor]:
        """Return masks that keep the largest magnitudes."""
        return keep_at(magnitudes, sparsity, scope)
