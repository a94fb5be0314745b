"""A linear layer that multiplies only with the weights that are not zero."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal, Self

import torch
from torch import nn

from mirrormask.deploy.csr import (
    CSR_DTYPES,
    CsrModule,
    Engine,
    check_bias,
    check_csr,
    csr_tensor,
    dense_to_csr,
    is_recording,
)
from mirrormask.deploy.decode import CsrArrays
from mirrormask.deploy.kernel_linear import LinearKernel, kernels_for
from mirrormask.deploy.made import Arrays, made_for
from mirrormask.errors import ArgumentError

OutputLayout = Literal["rows", "columns"]
# Below this many rows one product per row beats the matrix product, whose kernel needs columns.
_MAX_VECTOR_ROWS = 2


def multiply(matrix: torch.Tensor, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Return ``x @ matrix.T + bias`` for ``x`` of shape ``[n, in]``, stored column by column."""
    if x.shape[0] == 1:
        vector = x[0]
        if bias is None:
            return torch.mv(matrix, vector)[None]
        return torch.addmv(bias, matrix, vector)[None]
    if x.shape[0] <= _MAX_VECTOR_ROWS and x.shape[0] > 0:
        return torch.cat([multiply(matrix, row[None], bias) for row in x])
    return _product(matrix, x.t().contiguous(), None if bias is None else bias[:, None])


def _product(
    matrix: torch.Tensor, columns: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    if bias is None:
        return torch.mm(matrix, columns).t()
    return torch.addmm(bias, matrix, columns).t()


class SharedColumns:
    """The transposed input of layers that all read the same tensor, made once a call.

    It is held only until the last of ``readers`` has taken it.
    """

    def __init__(self, readers: int) -> None:
        self.readers = readers
        self._held: tuple[torch.Tensor, torch.Tensor, list[int]] | None = None

    def take(self, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return ``rows`` transposed, where ``rows`` is ``x`` as a matrix."""
        # One look at the attribute: another thread may replace it, but never change what it holds.
        held = self._held
        if held is not None and held[0] is x:
            held[2].append(1)
            if len(held[2]) >= self.readers:
                self._held = None
            return held[1]
        columns = rows.t().contiguous()
        self._held = (x, columns, [1])
        return columns

    def __getstate__(self) -> dict[str, object]:
        return {"readers": self.readers, "_held": None}


@torch.library.custom_op("mirrormask::sparse_linear", mutates_args=())
def sparse_linear_op(
    x: torch.Tensor,
    row_starts: torch.Tensor,
    columns: torch.Tensor,
    values: torch.Tensor,
    bias: torch.Tensor | None,
    relu: bool = False,  # noqa: FBT001
) -> torch.Tensor:
    """Multiply rows ``[n, in]`` with a CSR matrix ``[out, in]`` as one opaque operator."""
    width = x.shape[1]

    def make(arrays: Arrays) -> LinearKernel | torch.Tensor:
        return linear_product(arrays, bias, width, relu=relu, engine="kernel")

    # Anybody may call an operator, or load a program that does, so nothing is trusted.
    made = made_for((row_starts, columns, values), bias, (width, relu), make)
    if isinstance(made, LinearKernel):
        return made(x)
    out = multiply(made, x, bias).contiguous()
    return out.relu_() if relu else out


@sparse_linear_op.register_fake
def _(
    x: torch.Tensor,
    row_starts: torch.Tensor,
    columns: torch.Tensor,
    values: torch.Tensor,
    bias: torch.Tensor | None,
    relu: bool = False,  # noqa: FBT001
) -> torch.Tensor:
    return x.new_empty((x.shape[0], row_starts.shape[0] - 1))


def linear_product(
    arrays: Arrays, bias: torch.Tensor | None, width: int, *, relu: bool, engine: Engine
) -> LinearKernel | torch.Tensor:
    """Return the checked matrix as the kernels see it, or as a CSR tensor of torch."""
    shape = (arrays[0].numel() - 1, width)
    check_csr(arrays, shape)
    check_bias(bias, shape[0], arrays[2])
    library = kernels_for(arrays[2]) if engine == "kernel" else None
    if library is not None:
        return LinearKernel(library, arrays, bias, width, relu=relu)
    return csr_tensor(*arrays, shape)


class SparseLinear(CsrModule):
    """``y = x W^T + b`` with W in CSR form; for inference on CPU.

    Shapes: input ``[..., in_features]``, output ``[..., out_features]``. ``output_layout`` is
    ``"rows"`` for an ordinary contiguous result; ``"columns"`` leaves it as the transposed view
    that the product gave, which saves a copy where the next layer is sparse too. ``shared`` saves
    the copy of the input where several layers read the same one. ``relu`` applies that function to
    the result. ``engine`` is ``"kernel"`` for the compiled kernels, whose place torch takes where
    they are missing or the values are float64, or ``"torch"`` for torch's CSR product.

    Raises:
        ArgumentError: The arrays are no CSR matrix, or the input has another width.

    Example:
        >>> import torch
        >>> dense = torch.nn.Linear(4, 3)
        >>> _ = dense.weight.data[:, 1:].zero_()
        >>> layer = SparseLinear.from_linear(dense)
        >>> x = torch.randn(2, 4)
        >>> layer.nonzeros, torch.allclose(layer(x), dense(x), atol=1e-6)
        (3, True)
    """

    bias: torch.Tensor | None

    def __init__(self, csr: CsrArrays, bias: torch.Tensor | None = None) -> None:
        super().__init__(csr)
        self.out_features, self.in_features = csr.shape
        check_bias(bias, self.out_features, csr.values)
        self.register_buffer("bias", None if bias is None else bias.detach())
        self.output_layout: OutputLayout = "rows"
        self.shared: SharedColumns | None = None
        self.engine: Engine = "kernel"
        self.relu = False

    @classmethod
    def from_linear(cls, linear: nn.Linear) -> Self:
        """Build the sparse twin of a dense layer; its weights are copied.

        Raises:
            ArgumentError: The weights are not float32 or float64 on the CPU.
        """
        bias = None if linear.bias is None else linear.bias.detach().clone()
        return cls(csr_of_matrix(linear.weight.detach()), bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x W^T + b``; no gradient flows."""
        if x.shape[-1] != self.in_features:
            raise ArgumentError(
                f"the input has {x.shape[-1]} features, this layer takes {self.in_features}"
            )
        if is_recording():
            rows = x.reshape(-1, self.in_features)
            out: torch.Tensor = sparse_linear_op(
                rows, self.row_starts, self.columns, self.values, self.bias, self.relu
            )
            return out.reshape(*x.shape[:-1], self.out_features)
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self._multiply(x)
        return self._multiply(x)

    def options(self) -> Hashable:
        """Return what else decides how the product is made."""
        return self.engine, self.relu

    def make(self) -> LinearKernel | torch.Tensor:
        """Build the kernel's view of the matrix, or torch's."""
        return linear_product(
            self.arrays, self.bias, self.in_features, relu=self.relu, engine=self.engine
        )

    def _multiply(self, x: torch.Tensor) -> torch.Tensor:
        made = self.made()
        flat = x.ndim == 2
        rows = x if flat else x.reshape(-1, self.in_features)
        by_columns = self.output_layout == "columns"
        shared = self.shared if rows.shape[0] > _MAX_VECTOR_ROWS else None
        columns = None if shared is None else shared.take(x, rows)
        if isinstance(made, LinearKernel):
            out = made(rows if columns is None else columns.t(), output_by_columns=by_columns)
        else:
            out = self._by_torch(made, rows, columns)
            out = out if by_columns else out.contiguous()
        return out if flat else out.view(*x.shape[:-1], self.out_features)

    def _by_torch(
        self, matrix: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor | None
    ) -> torch.Tensor:
        bias = self._buffers["bias"]
        if columns is None:
            out = multiply(matrix, rows, bias)
        else:
            out = _product(matrix, columns, None if bias is None else bias[:, None])
        return out.relu_() if self.relu else out

    def to_dense(self) -> nn.Module:
        """Return the ordinary layer with the same weights, and its ReLU if there is one."""
        linear = nn.Linear(
            self.in_features,
            self.out_features,
            bias=self.bias is not None,
            dtype=self.values.dtype,
        )
        with torch.no_grad():
            linear.weight.copy_(self.dense_matrix())
            if self.bias is not None:
                linear.bias.copy_(self.bias)
        linear.requires_grad_(False)
        return nn.Sequential(linear, nn.ReLU()) if self.relu else linear

    def extra_repr(self) -> str:
        """Describe sizes and sparsity."""
        share = 1.0 - self.nonzeros / max(1, self.in_features * self.out_features)
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, {share:.2%} zeros"
        )


def csr_of_matrix(matrix: torch.Tensor) -> CsrArrays:
    """Return the CSR form of a dense CPU matrix ``[rows, columns]``.

    Raises:
        ArgumentError: The matrix is not two-dimensional float32 or float64 on the CPU.
    """
    if matrix.ndim != 2 or matrix.dtype not in CSR_DTYPES or matrix.device.type != "cpu":
        raise ArgumentError(
            f"a {matrix.dtype} tensor of shape {list(matrix.shape)} on {matrix.device} has no "
            "sparse layer: use float32 or float64 matrices on the CPU"
        )
    starts, columns, values = dense_to_csr(matrix)
    return CsrArrays(
        row_starts=starts,
        columns=columns,
        values=values,
        shape=(matrix.shape[0], matrix.shape[1]),
    )
