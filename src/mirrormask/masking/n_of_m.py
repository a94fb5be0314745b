"""N:M sparsity: so many weights kept of each few neighbours, as sparse tensor cores want it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.masking.budget import Scope, zeros_asked
from mirrormask.masking.exact import keep_at
from mirrormask.masking.groups import refuse_vectors
from mirrormask.masking.pattern import Pattern


@dataclass(frozen=True)
class NofM(Pattern):
    """Keep ``n`` of each ``m`` consecutive weights along the input dimension.

    The only target is ``1 - n / m``. On the way there, along a ramp, the smallest magnitudes of all
    go first, but never more than ``m - n`` of a group. The scope has no meaning: every group ends
    at the same count.

    Source: Mishra et al., "Accelerating Sparse Deep Neural Networks" (2021).

    Args:
        n: Kept of each group, at least 1.
        m: Size of a group, larger than ``n``.

    Raises:
        ArgumentError: Unless 1 <= n < m.

    Example:
        >>> x = torch.tensor([[1.0, 4.0, 2.0, 3.0]])
        >>> NofM(2, 4).keep([x], 0.5, "global")[0].tolist()
        [[False, True, False, True]]
    """

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.n < self.m:
            raise ArgumentError(
                f"n={self.n} of m={self.m} is no such pattern: use 1 <= n < m, such as 2 of 4."
            )

    @property
    def sparsity(self) -> float:
        """Return the only target."""
        return 1.0 - self.n / self.m

    def keep(self, magnitudes: Sequence[Tensor], sparsity: float, scope: Scope) -> list[Tensor]:
        """Return masks that keep at least ``n`` of each group, exactly ``n`` at the target."""
        return keep_at([self._droppable(tensor) for tensor in magnitudes], sparsity, "global")

    def check(self, shapes: Mapping[str, Sequence[int]], sparsity: float) -> None:
        """Refuse other targets, and input dimensions that are no multiple of ``m``."""
        total = sum(math.prod(shape) for shape in shapes.values())
        # By the count: one zero too many or too few already breaks a group.
        if zeros_asked(sparsity, total) != zeros_asked(self.sparsity, total):
            raise ArgumentError(
                f"sparsity={sparsity} is not that of {self.n} of {self.m}: ask for "
                f"{self.sparsity}, or for another n and m."
            )
        refuse_vectors(f"{self.n} of {self.m}", shapes)
        for name, shape in shapes.items():
            if shape[1] % self.m:
                raise ArgumentError(
                    f"{name!r} has an input dimension of {shape[1]}, no multiple of m={self.m}: "
                    f"leave it out with exclude={name!r}."
                )

    def _droppable(self, magnitude: Tensor) -> Tensor:
        """Return the magnitudes, infinite for the largest ``n`` of each group."""
        inputs_last = magnitude.detach().movedim(1, -1)
        grouped = inputs_last.reshape(*inputs_last.shape[:-1], -1, self.m)
        order = grouped.sort(dim=-1, stable=True).indices
        largest = order[..., self.m - self.n :]
        marked = grouped.scatter(-1, largest, torch.inf)
        return marked.reshape(inputs_last.shape).movedim(-1, 1)
