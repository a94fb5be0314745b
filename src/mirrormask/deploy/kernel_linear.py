"""The compiled linear product, called with tensors."""

from __future__ import annotations

import ctypes
import threading

import torch

from mirrormask.deploy.kernel_blocks import BlockedWeights
from mirrormask.deploy.made import Arrays
from mirrormask.errors import ArgumentError
from mirrormask.kernels import Library, Rows, kernels

_Layout = ctypes.c_int32 * 2
LAYOUTS = {(a, b): _Layout(a, b) for a in (False, True) for b in (False, True)}
"""Whether input and output of a product lie column by column, as the kernels are told."""


def kernels_for(values: torch.Tensor) -> Library | None:
    """Return the compiled kernels if they can multiply with these values: float32 on the CPU."""
    if values.dtype != torch.float32 or values.device.type != "cpu":
        return None
    return kernels()


class LinearKernel:
    """A sparse matrix as the kernels see it; it keeps the arrays alive, which were checked.

    Several threads may call it at once.
    """

    def __init__(
        self,
        library: Library,
        arrays: Arrays,
        bias: torch.Tensor | None,
        width: int,
        *,
        relu: bool = False,
    ) -> None:
        starts, columns, values = arrays
        self._arrays = starts.contiguous(), columns.contiguous(), values.contiguous()
        self._bias = None if bias is None else bias.contiguous()
        self.rows, self.width, self._library = starts.numel() - 1, width, library
        self._matrix = rows_of(library, self._arrays, self._bias, relu=relu)

        # Blocks cost memory: they are made when the first batch comes for which they pay.
        self.blocks: BlockedWeights | None = None
        self._least_for_blocks = library.least_for_blocks(self._matrix, width)
        self._cutting = threading.Lock()

    @property
    def extra_bytes(self) -> int:
        """Bytes held besides the arrays that were given: the blocks, once they are made."""
        return 0 if self.blocks is None else self.blocks.bytes

    def __call__(self, x: torch.Tensor, *, output_by_columns: bool = False) -> torch.Tensor:
        """Return ``x W^T + b`` for ``x`` ``[n, in]`` in any layout.

        The result ``[n, out]`` is contiguous, or the transposed view of a contiguous tensor.

        Raises:
            ArgumentError: ``x`` is not float32 on the CPU.
        """
        if x.dtype != torch.float32 or x.device.type != "cpu":
            raise ArgumentError(f"the input is {x.dtype} on {x.device}: give float32 on the CPU")
        by_columns = False
        if not x.is_contiguous():
            by_columns = x.t().is_contiguous()
            x = x if by_columns else x.contiguous()
        n = x.shape[0]
        if n >= self._least_for_blocks and self.blocks is None:
            self._cut()
        shape = (self.rows, n) if output_by_columns else (n, self.rows)
        out = torch.empty(shape, dtype=torch.float32, device="cpu")
        self._library.linear(
            self._matrix,
            self.width,
            x.data_ptr(),
            n,
            out.data_ptr(),
            by_columns=LAYOUTS[by_columns, output_by_columns],
            threads=torch.get_num_threads(),
        )
        return out.t() if output_by_columns else out

    def _cut(self) -> None:
        with self._cutting:
            if self.blocks is not None:
                return
            blocks = BlockedWeights(self._library, self._matrix, self.width)
            # A new description: another thread may be in the middle of a product with the old one.
            self._matrix = blocks.attached_to(self._matrix)
            self.blocks = blocks


def rows_of(library: Library, arrays: Arrays, bias: torch.Tensor | None, *, relu: bool) -> Rows:
    """Describe contiguous arrays to the kernels; the caller keeps them alive."""
    starts, columns, values = arrays
    return library.rows(
        starts.numel() - 1,
        starts=starts.data_ptr(),
        columns=columns.data_ptr(),
        values=values.data_ptr(),
        bias=None if bias is None else bias.data_ptr(),
        relu=relu,
    )
