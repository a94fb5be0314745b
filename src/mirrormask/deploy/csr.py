"""The sparse matrix that all sparse layers share: 32-bit CSR buffers and what makes them fast.

Stock torch multiplies a CSR matrix several times faster with 32-bit than with 64-bit indices, and
with ``addmv``/``addmm`` in [features, batch] layout than in the ``x @ w.T`` form. Half-precision
values are not supported on CPU, so values are float32 or float64.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
from torch import nn

from mirrormask.errors import ArgumentError, CheckpointError

Engine = Literal["kernel", "torch"]
CSR_DTYPES = (torch.float32, torch.float64)
_BUFFERS = ("row_starts", "columns", "values")


def csr_tensor(
    row_starts: torch.Tensor, columns: torch.Tensor, values: torch.Tensor, shape: tuple[int, int]
) -> torch.Tensor:
    """Return a torch CSR tensor that shares the memory of its three arrays."""
    with warnings.catch_warnings():
        # Torch announces once that CSR is in beta; the form used here is tested by this package.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            row_starts, columns, values, size=shape, check_invariants=False
        )


def dense_to_csr(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return row starts, columns (both int32) and values of a dense matrix ``[rows, columns]``."""
    rows, columns = torch.nonzero(matrix, as_tuple=True)
    counts = torch.bincount(rows, minlength=matrix.shape[0])
    starts = torch.zeros(matrix.shape[0] + 1, dtype=torch.int32)
    starts[1:] = torch.cumsum(counts, 0)
    return starts, columns.to(torch.int32), matrix[rows, columns].contiguous()


def check_csr(
    row_starts: torch.Tensor, columns: torch.Tensor, values: torch.Tensor, shape: tuple[int, int]
) -> None:
    """Refuse arrays that are no CSR matrix: the kernels behind them check nothing.

    Raises:
        ArgumentError: A type, size, order or range is wrong.
    """
    problem = None
    if row_starts.dtype != torch.int32 or columns.dtype != torch.int32:
        problem = "indices are not int32"
    elif values.dtype not in CSR_DTYPES:
        problem = f"values are {values.dtype}, not float32 or float64"
    elif row_starts.shape != (shape[0] + 1,) or columns.ndim != 1 or columns.shape != values.shape:
        problem = "arrays do not fit the shape"
    elif int(row_starts[0]) != 0 or int(row_starts[-1]) != columns.numel():
        problem = "row starts do not cover the values"
    elif bool((row_starts[1:] < row_starts[:-1]).any()):
        problem = "row starts decrease"
    elif columns.numel() and not 0 <= int(columns.min()) <= int(columns.max()) < shape[1]:
        problem = "a column is outside the matrix"
    elif not _increasing_in_rows(row_starts, columns):
        problem = "columns of a row are not in increasing order"
    if problem is not None:
        raise ArgumentError(f"no CSR matrix of shape {list(shape)}: {problem}")


def _increasing_in_rows(row_starts: torch.Tensor, columns: torch.Tensor) -> bool:
    if columns.numel() < 2:
        return True
    steps = columns[1:] > columns[:-1]
    first_of_row = torch.zeros(columns.numel() + 1, dtype=torch.bool)
    first_of_row[row_starts.long()] = True
    return bool((steps | first_of_row[1:-1]).all())


class CsrModule(nn.Module):
    """Three CSR buffers with the torch tensor made from them, rebuilt when they are replaced.

    State dicts hold the plain arrays, whose lengths may differ from the present ones when they
    are loaded. The module is for inference only: nothing in it is trainable.
    """

    row_starts: torch.Tensor
    columns: torch.Tensor
    values: torch.Tensor

    def __init__(
        self,
        row_starts: torch.Tensor,
        columns: torch.Tensor,
        values: torch.Tensor,
        shape: tuple[int, int],
    ) -> None:
        super().__init__()
        check_csr(row_starts, columns, values, shape)
        self.matrix_shape = shape
        self.register_buffer("row_starts", row_starts)
        self.register_buffer("columns", columns)
        self.register_buffer("values", values)
        self._made_from: tuple[torch.Tensor | None, ...] = ()
        self._made: Any = None

    @property
    def nonzeros(self) -> int:
        """Number of stored values."""
        return self.values.numel()

    @property
    def weight_bytes(self) -> int:
        """Bytes of the three arrays."""
        buffers = (self.row_starts, self.columns, self.values)
        return sum(buffer.numel() * buffer.itemsize for buffer in buffers)

    def dense_matrix(self) -> torch.Tensor:
        """Return the matrix as a dense tensor ``[rows, columns]``."""
        matrix = torch.zeros(self.matrix_shape, dtype=self.values.dtype)
        rows = torch.repeat_interleave(
            torch.arange(self.matrix_shape[0]), self.row_starts.diff().long()
        )
        matrix[rows, self.columns.long()] = self.values
        return matrix

    def made(self) -> Any:
        """Return what :meth:`make` builds from the buffers, built again if they were replaced."""
        # Past torch's attribute look-up: this runs in every call, which may last ten microseconds.
        buffers = self._buffers
        values, bias = buffers["values"], buffers.get("bias")
        made_from = self._made_from
        if not made_from or made_from[0] is not values or made_from[1] is not bias:
            self._made = self.make()
            self._made_from = (values, bias)
        return self._made

    def remake(self) -> None:
        """Forget what was made, because an option of the layer changed."""
        self._made_from = ()

    def make(self) -> Any:
        """Build what the forward pass multiplies with."""
        return csr_tensor(self.row_starts, self.columns, self.values, self.matrix_shape)

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles hold the buffers alone; what is made from them holds addresses.
        return {**self.__dict__, "_made": None, "_made_from": ()}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        given = [state_dict.get(prefix + name) for name in _BUFFERS]
        row_starts, columns, values = given
        if row_starts is not None and columns is not None and values is not None:
            try:
                check_csr(row_starts, columns, values, self.matrix_shape)
            except ArgumentError as error:
                raise CheckpointError(f"{prefix}: {error}; load the layer that was saved") from None
            for name in _BUFFERS:
                self._buffers[name] = torch.empty_like(state_dict[prefix + name])
        super()._load_from_state_dict(state_dict, prefix, *rest)
