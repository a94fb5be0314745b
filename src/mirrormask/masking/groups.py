"""Zeros in groups: blocks of a matrix, or whole rows and output channels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.masking.budget import Scope, zeros_asked, zeros_per_tensor
from mirrormask.masking.pattern import Pattern


@dataclass(frozen=True)
class Groups(Pattern):
    """Weights live or die by groups, the groups of smallest mean magnitude first.

    The count of zeros stays exact: where it is not a sum of whole groups, the last group is cut in
    part, its smallest weights first. That is one group in all, or one a tensor where the scope
    gives every tensor its own count.
    """

    @abstractmethod
    def group_of(self, shape: Sequence[int]) -> Tensor:
        """Return the number of the group, from 0, of each weight: int64, in this shape."""

    def keep(self, magnitudes: Sequence[Tensor], sparsity: float, scope: Scope) -> list[Tensor]:
        """Return masks that drop whole groups, but for the last one."""
        if scope == "global":
            total = sum(tensor.numel() for tensor in magnitudes)
            return self._keep(magnitudes, zeros_asked(sparsity, total))
        counts = zeros_per_tensor([tensor.shape for tensor in magnitudes], sparsity, scope)
        return [
            self._keep([tensor], zeros)[0] for tensor, zeros in zip(magnitudes, counts, strict=True)
        ]

    def check(self, shapes: Mapping[str, Sequence[int]], sparsity: float) -> None:
        """Refuse tensors that have no rows and columns."""
        refuse_vectors(type(self).__name__, shapes)

    def _keep(self, magnitudes: Sequence[Tensor], zeros: int) -> list[Tensor]:
        home = magnitudes[0].device
        flat = torch.cat([tensor.detach().to(home).flatten() for tensor in magnitudes])
        group, groups = [], 0
        for tensor in magnitudes:
            own = self.group_of(tensor.shape).flatten() + groups
            groups = int(own[-1]) + 1 if own.numel() else groups
            group.append(own)
        of = torch.cat(group).to(home)
        sums = flat.new_zeros(groups, dtype=torch.float64).index_add_(0, of, flat.double())
        sizes = flat.new_zeros(groups, dtype=torch.float64).index_add_(
            0, of, torch.ones_like(flat, dtype=torch.float64)
        )
        rank = torch.empty(groups, dtype=torch.int64, device=home)
        rank[(sums / sizes).sort(stable=True).indices] = torch.arange(groups, device=home)
        # By group, and by magnitude inside it: two stable sorts, the finer one first.
        order = flat.sort(stable=True).indices
        order = order[rank[of[order]].sort(stable=True).indices]
        keep = torch.ones_like(flat, dtype=torch.bool)
        keep[order[:zeros]] = False
        parts = torch.split(keep, [tensor.numel() for tensor in magnitudes])
        return [
            part.view(tensor.shape).to(tensor.device)
            for part, tensor in zip(parts, magnitudes, strict=True)
        ]


@dataclass(frozen=True)
class Rows(Groups):
    """Groups are rows of a matrix, output channels of a convolution.

    The rows of the last layer are the outputs of the net: at high sparsities classes go, unless
    that layer is left out with ``exclude``.

    Example:
        >>> x = torch.tensor([[1.0, 9.0], [2.0, 3.0], [7.0, 7.0]])
        >>> Rows().keep([x], 1 / 3, "global")[0].tolist()
        [[True, True], [False, False], [True, True]]
    """

    def group_of(self, shape: Sequence[int]) -> Tensor:
        """Return the index along the first dimension."""
        rows = torch.arange(shape[0])
        return rows.view(-1, *(1 for _ in shape[1:])).expand(*shape)


@dataclass(frozen=True)
class Block(Groups):
    """Groups are blocks of a matrix; convolutions count as matrices of one row a channel.

    Blocks at the right and lower edge may be smaller.

    Args:
        rows: Height of a block.
        columns: Width of a block.

    Raises:
        ArgumentError: If a side is less than 1.

    Example:
        >>> x = torch.tensor([[1.0, 1.0, 5.0, 0.0], [1.0, 1.0, 0.0, 5.0]])
        >>> Block(rows=2, columns=2).keep([x], 0.5, "global")[0].tolist()
        [[False, False, True, True], [False, False, True, True]]
    """

    rows: int = 4
    columns: int = 4

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ArgumentError(
                f"A block of rows={self.rows}, columns={self.columns} holds nothing: use at least "
                "1 of each."
            )

    def group_of(self, shape: Sequence[int]) -> Tensor:
        """Return the number of the block, row by row of blocks."""
        height = shape[0]
        width = torch.Size(shape[1:]).numel()
        down = torch.arange(height) // self.rows
        across = torch.arange(width) // self.columns
        return (down[:, None] * (-(-width // self.columns)) + across).view(*shape)


def refuse_vectors(pattern: str, shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse tensors of fewer than two dimensions, which have no rows."""
    for name, shape in shapes.items():
        if len(shape) < 2:
            raise ArgumentError(
                f"{name!r} of shape {tuple(shape)} has no rows for the pattern {pattern}: leave it "
                f"out with exclude={name!r}."
            )
