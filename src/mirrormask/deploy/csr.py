"""The sparse matrix that all sparse layers share: 32-bit CSR buffers and what makes them fast.

Stock torch multiplies a CSR matrix several times faster with 32-bit than with 64-bit indices, and
with ``addmv``/``addmm`` in [features, batch] layout than in the ``x @ w.T`` form. Half-precision
values are not supported on CPU, so values are float32 or float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from typing import Any, Literal

import torch
from torch import nn

from mirrormask.deploy.decode import CsrArrays
from mirrormask.deploy.made import Arrays, Slot
from mirrormask.errors import ArgumentError, CheckpointError
from mirrormask.kernels import kernels

Engine = Literal["kernel", "torch"]
CSR_DTYPES = (torch.float32, torch.float64)
_BUFFERS = ("row_starts", "columns", "values")


# Bound once: small networks ask in every call.
_is_compiling, _tracing_state = torch.compiler.is_compiling, torch._C._get_tracing_state


def is_recording() -> bool:
    """Tell whether torch writes down what runs, for which the layers must be operators it knows."""
    return _is_compiling() or _tracing_state() is not None


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


def check_csr(arrays: Arrays, shape: tuple[int, int]) -> None:
    """Refuse arrays that are no CSR matrix: a wrong index is a read outside of an array.

    Raises:
        ArgumentError: A type, device, size, order or range is wrong.
    """
    problem = _kind_problem(arrays, shape)
    if problem is None and not _sound_at_a_glance(arrays, shape):
        problem = _index_problem(arrays, shape)
    if problem is not None:
        raise ArgumentError(f"no CSR matrix of shape {list(shape)}: {problem}")


def check_bias(bias: torch.Tensor | None, outputs: int, values: torch.Tensor) -> None:
    """Refuse a bias that does not go with a matrix of these values.

    Raises:
        ArgumentError: Its shape, type or device is wrong.
    """
    if bias is None:
        return
    found = (bias.shape, bias.dtype, bias.device)
    if found != ((outputs,), values.dtype, values.device):
        raise ArgumentError(
            f"a bias of shape {list(bias.shape)} and type {bias.dtype} on {bias.device} does not "
            f"fit {outputs} outputs of type {values.dtype} on {values.device}"
        )


def _kind_problem(arrays: Arrays, shape: tuple[int, int]) -> str | None:
    row_starts, columns, values = arrays
    devices = {str(tensor.device) for tensor in arrays}
    if devices != {"cpu"}:
        return f"arrays are on {', '.join(sorted(devices))}, not on the CPU"
    if row_starts.dtype != torch.int32 or columns.dtype != torch.int32:
        return "indices are not int32"
    if values.dtype not in CSR_DTYPES:
        return f"values are {values.dtype}, not float32 or float64"
    if row_starts.shape != (shape[0] + 1,) or columns.ndim != 1 or columns.shape != values.shape:
        return "arrays do not fit the shape"
    return None


def _sound_at_a_glance(arrays: Arrays, shape: tuple[int, int]) -> bool:
    """Tell whether the compiled check, a single pass, finds the indices sound; False without it."""
    library, (row_starts, columns, _) = kernels(), arrays
    if library is None or not (row_starts.is_contiguous() and columns.is_contiguous()):
        return False
    return library.rows_are_sound(
        row_starts.data_ptr(), columns.data_ptr(), shape[0], columns.numel(), shape[1]
    )


def _index_problem(arrays: Arrays, shape: tuple[int, int]) -> str | None:
    row_starts, columns, _ = arrays
    problem = None
    if int(row_starts[0]) != 0 or int(row_starts[-1]) != columns.numel():
        problem = "row starts do not cover the values"
    elif bool((row_starts[1:] < row_starts[:-1]).any()):
        problem = "row starts decrease"
    elif columns.numel() and not 0 <= int(columns.min()) <= int(columns.max()) < shape[1]:
        problem = "a column is outside the matrix"
    elif not _increasing_in_rows(row_starts, columns):
        problem = "columns of a row are not in increasing order"
    return problem


def _increasing_in_rows(row_starts: torch.Tensor, columns: torch.Tensor) -> bool:
    if columns.numel() < 2:
        return True
    steps = columns[1:] > columns[:-1]
    first_of_row = torch.zeros(columns.numel() + 1, dtype=torch.bool)
    first_of_row[row_starts.long()] = True
    return bool((steps | first_of_row[1:-1]).all())


class CsrModule(nn.Module):
    """Three CSR buffers with what was made from them, made again when they change.

    State dicts hold the plain arrays, whose lengths may differ from the present ones when they
    are loaded. The module is for inference only: nothing in it is trainable.
    """

    row_starts: torch.Tensor
    columns: torch.Tensor
    values: torch.Tensor

    def __init__(self, csr: CsrArrays) -> None:
        super().__init__()
        check_csr((csr.row_starts, csr.columns, csr.values), csr.shape)
        self.matrix_shape = csr.shape
        self.register_buffer("row_starts", csr.row_starts)
        self.register_buffer("columns", csr.columns)
        self.register_buffer("values", csr.values)
        self._slot = Slot()

    @property
    def nonzeros(self) -> int:
        """Number of stored values."""
        return self.values.numel()

    @property
    def weight_bytes(self) -> int:
        """Bytes of the three arrays, and of what the calls so far have added to them."""
        arrays = sum(buffer.numel() * buffer.itemsize for buffer in self.arrays)
        return arrays + self._slot.extra_bytes

    def dense_matrix(self) -> torch.Tensor:
        """Return the matrix as a dense tensor ``[rows, columns]``."""
        matrix = torch.zeros(self.matrix_shape, dtype=self.values.dtype)
        rows = torch.repeat_interleave(
            torch.arange(self.matrix_shape[0]), self.row_starts.diff().long()
        )
        matrix[rows, self.columns.long()] = self.values
        return matrix

    @property
    def arrays(self) -> Arrays:
        """Row starts, columns and values."""
        return self.row_starts, self.columns, self.values

    def made(self) -> Any:
        """Return what :meth:`make` builds, built again if a buffer or an option changed."""
        # Past torch's attribute look-up: this runs in every call, which may last ten microseconds.
        buffers: dict[str, Any] = self._buffers
        arrays = buffers["row_starts"], buffers["columns"], buffers["values"]
        return self._slot.get(arrays, buffers.get("bias"), self.options(), self.make)

    def options(self) -> Hashable:
        """Return what else decides how the product is made."""
        return None

    def make(self) -> Any:
        """Check the buffers, which anybody may have replaced, and build the product from them."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles hold the buffers alone; what is made from them holds addresses.
        return {**self.__dict__, "_slot": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "_slot": Slot()})  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        given = [state_dict.get(prefix + name) for name in _BUFFERS]
        row_starts, columns, values = given
        if row_starts is not None and columns is not None and values is not None:
            try:
                check_csr((row_starts, columns, values), self.matrix_shape)
            except ArgumentError as error:
                raise CheckpointError(f"{prefix}: {error}; load the layer that was saved") from None
            for name in _BUFFERS:
                self._buffers[name] = torch.empty_like(state_dict[prefix + name])
        super()._load_from_state_dict(state_dict, prefix, *rest)
