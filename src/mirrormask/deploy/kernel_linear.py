"""The compiled linear product, called with tensors."""

from __future__ import annotations

import ctypes

import torch

from mirrormask.deploy.kernel_blocks import BlockedWeights
from mirrormask.errors import ArgumentError
from mirrormask.kernels import Library, kernels

_Layout = ctypes.c_int32 * 2
_LAYOUTS = {(a, b): _Layout(a, b) for a in (False, True) for b in (False, True)}


def kernels_for(values: torch.Tensor) -> Library | None:
    """Return the compiled kernels if they can multiply with these values: float32 on the CPU."""
    if values.dtype != torch.float32 or values.device.type != "cpu":
        return None
    return kernels()


class LinearKernel:
    """A sparse matrix as the kernels see it; it keeps the arrays alive.

    Raises:
        ArgumentError: ``check`` was asked for, and the arrays are no matrix of this width.
    """

    def __init__(
        self,
        library: Library,
        arrays: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        bias: torch.Tensor | None,
        width: int,
        *,
        relu: bool = False,
        check: bool = False,
    ) -> None:
        self.arrays = starts, columns, values = _contiguous(arrays)
        self.bias = None if bias is None else bias.contiguous()
        self.rows, self.width, self._library = starts.numel() - 1, width, library
        if check:
            check_arrays(library, self.arrays, self.bias, width)
        self._matrix = library.rows(
            self.rows,
            starts=starts.data_ptr(),
            columns=columns.data_ptr(),
            values=values.data_ptr(),
            bias=None if self.bias is None else self.bias.data_ptr(),
            relu=relu,
        )

        # Blocks cost memory: they are made when the first batch comes for which they pay.
        self._blocks: BlockedWeights | None = None
        self._sizes_seen: set[int] = set()

    def _meet(self, n: int) -> None:
        """Look at a batch size that is new, and cut the weights into blocks if that pays."""
        self._sizes_seen.add(n)
        if self._blocks is None and self._library.blocks_pay(self._matrix, self.width, n):
            nonzeros = self.arrays[2].numel()
            self._blocks = BlockedWeights(self._library, self._matrix, self.width, nonzeros)
            self._blocks.attach(self._matrix)

    def __call__(self, x: torch.Tensor, *, output_by_columns: bool = False) -> torch.Tensor:
        """Return ``x W^T + b`` for ``x`` ``[n, in]`` in any layout.

        The result ``[n, out]`` is contiguous, or the transposed view of a contiguous tensor.
        """
        if x.dtype != torch.float32 or x.device.type != "cpu":
            raise ArgumentError(f"the input is {x.dtype} on {x.device}: give float32 on the CPU")
        by_columns = False
        if not x.is_contiguous():
            by_columns = x.t().is_contiguous()
            x = x if by_columns else x.contiguous()
        n = x.shape[0]
        if n not in self._sizes_seen:
            self._meet(n)
        shape = (self.rows, n) if output_by_columns else (n, self.rows)
        out = torch.empty(shape)
        self._library.linear(
            self._matrix,
            self.width,
            x.data_ptr(),
            n,
            out.data_ptr(),
            by_columns=_LAYOUTS[by_columns, output_by_columns],
            threads=torch.get_num_threads(),
        )
        return out.t() if output_by_columns else out


def check_arrays(
    library: Library,
    arrays: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    bias: torch.Tensor | None,
    width: int,
) -> None:
    """Refuse arrays that would make a kernel read outside of them or of its input."""
    starts, columns, values = arrays
    fits = (
        starts.dtype == columns.dtype == torch.int32
        and starts.numel() > 0
        and columns.numel() == values.numel()
        and (bias is None or (bias.dtype, bias.numel()) == (torch.float32, starts.numel() - 1))
    )
    if not fits or not library.rows_are_sound(
        starts.data_ptr(), columns.data_ptr(), starts.numel() - 1, columns.numel(), width
    ):
        raise ArgumentError(f"the arrays are no sparse matrix with {width} columns")


def _contiguous(
    arrays: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    starts, columns, values = arrays
    return starts.contiguous(), columns.contiguous(), values.contiguous()
