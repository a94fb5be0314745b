"""The weights of a linear layer cut into blocks, for batches that would miss the cache."""

from __future__ import annotations

import ctypes

import torch

from mirrormask.kernels import Library, Rows


class BlockedWeights:
    """The blocks of a matrix with the arrays that they point to, 5 or 6 bytes a weight and some."""

    def __init__(self, library: Library, matrix: Rows, width: int) -> None:
        self.structure, sizes = library.plan_blocks(matrix, width)
        arrays = [torch.empty(size, dtype=torch.uint8, device="cpu") for size in sizes]
        self._point_to(arrays)
        groups, rows = library.fill_blocks(matrix, self.structure)
        self.arrays = [arrays[0], arrays[1][:groups].clone(), arrays[2][:rows].clone(), *arrays[3:]]
        self._point_to(self.arrays)

    def _point_to(self, arrays: list[torch.Tensor]) -> None:
        blocks = self.structure
        blocks.starts, blocks.groups, blocks.rows, blocks.columns, blocks.values = (
            array.data_ptr() for array in arrays
        )

    @property
    def bytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.numel() for array in self.arrays)

    def attached_to(self, matrix: Rows) -> Rows:
        """Return the matrix with these blocks, which the caller keeps alive."""
        twin = Rows.from_buffer_copy(matrix)
        twin.blocks = ctypes.pointer(self.structure)
        return twin
