"""Where the live weights of a frozen matrix are, by rows and by columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mirrormask.deploy.csr import dense_to_csr


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """The places of a matrix's live weights, in the order in which they are stored.

    Attributes:
        shape: Rows and columns of the whole matrix.
        starts: int32 [rows + 1], where each row's weights begin.
        columns: int32 [live], increasing within a row.
        turned_starts: The same of the transposed matrix, int32 [columns + 1].
        turned_columns: int32 [live].
        turn: int32 [live]: the transposed matrix's weights are ``values[turn]``.
    """

    shape: tuple[int, int]
    starts: Tensor
    columns: Tensor
    turned_starts: Tensor
    turned_columns: Tensor
    turn: Tensor

    @classmethod
    def of(cls, kept: Tensor) -> Self:
        """Return the pattern of a mask ``[rows, columns]`` that is True where a weight lives."""
        rows, columns = kept.shape
        order = torch.zeros(kept.shape, dtype=torch.int64)
        order[kept] = torch.arange(1, int(kept.sum()) + 1)
        starts, places, _ = dense_to_csr(order)
        turned_starts, turned_places, turn = dense_to_csr(order.t())
        return cls(
            shape=(rows, columns),
            starts=starts,
            columns=places,
            turned_starts=turned_starts,
            turned_columns=turned_places,
            turn=(turn - 1).to(torch.int32),
        )

    @property
    def flat(self) -> Tensor:
        """Return the places in the flattened matrix, int64 [live]."""
        rows = torch.repeat_interleave(torch.arange(self.shape[0]), self.starts.diff().long())
        return rows * self.shape[1] + self.columns

    @property
    def bytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (
            self.starts,
            self.columns,
            self.turned_starts,
            self.turned_columns,
            self.turn,
        )
        return sum(array.numel() * array.itemsize for array in arrays)

    @property
    def kept(self) -> Tensor:
        """Return the mask ``[rows, columns]``, True where a weight lives."""
        return self.spread(torch.ones(self.columns.numel(), dtype=torch.bool))

    def gather(self, whole: Tensor) -> Tensor:
        """Return the live entries ``[live]`` of a tensor in the matrix's shape."""
        return whole.reshape(-1)[self.flat]

    def spread(self, values: Tensor) -> Tensor:
        """Return live entries in the matrix's shape, zero elsewhere."""
        whole = values.new_zeros(self.shape[0] * self.shape[1])
        whole[self.flat] = values
        return whole.view(self.shape)
