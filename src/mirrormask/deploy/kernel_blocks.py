"""The weights of a linear layer cut into blocks, for batches that would miss the cache."""

from __future__ import annotations

import ctypes

import torch

from mirrormask.kernels import Blocks, Library, Rows
from mirrormask.kernels.structures import BLOCK_COLUMNS, BLOCK_ROWS


class BlockedWeights:
    """The blocks of a matrix with the arrays that they point to, 5 bytes a weight and some."""

    def __init__(self, library: Library, matrix: Rows, width: int, nonzeros: int) -> None:
        across, down = -(-width // BLOCK_COLUMNS), -(-matrix.rows // BLOCK_ROWS)
        starts = torch.empty(across * down + 1, dtype=torch.int32, device="cpu")
        groups = torch.empty((across * down * BLOCK_COLUMNS, 4), dtype=torch.int32, device="cpu")
        rows = torch.empty(across * matrix.rows, dtype=torch.uint8, device="cpu")
        columns = torch.empty(nonzeros, dtype=torch.uint8, device="cpu")
        values = torch.empty(nonzeros, dtype=torch.float32, device="cpu")
        used_groups, used_rows = library.fill_blocks(
            matrix,
            width,
            starts=starts.data_ptr(),
            groups=groups.data_ptr(),
            rows=rows.data_ptr(),
            columns=columns.data_ptr(),
            values=values.data_ptr(),
        )
        self.arrays = (
            starts,
            groups[:used_groups].clone(),
            rows[:used_rows].clone(),
            columns,
            values,
        )
        self.structure = Blocks(across, down, *(array.data_ptr() for array in self.arrays))

    @property
    def bytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.numel() * array.itemsize for array in self.arrays)

    def attached_to(self, matrix: Rows) -> Rows:
        """Return the matrix with these blocks, which the caller keeps alive."""
        twin = Rows.from_buffer_copy(matrix)
        twin.blocks = ctypes.pointer(self.structure)
        return twin
