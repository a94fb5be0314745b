"""A linear layer's product and both of its gradients, on live weights only."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mirrormask.deploy.kernel_linear import LAYOUTS, rows_of
from mirrormask.deploy.made import Arrays
from mirrormask.deploy.sparse_linear import OutputLayout
from mirrormask.errors import ArgumentError
from mirrormask.kernels import Library, kernel_status, kernels
from mirrormask.live.pattern import Pattern


class LinearProduct:
    """A product with a matrix whose live weights are at the places of a pattern; it is 0 elsewhere.

    Gradients reach input, values and bias; they cannot be differentiated once more. Under autocast
    the product is float32, as these weights are.

    Args:
        pattern: Of a matrix [out, in].

    Attributes:
        output_layout: ``"rows"`` for an ordinary contiguous result, ``"columns"`` for the
            transposed view that a next layer of live weights takes as it is. Gradients of the input
            come in the layout of the input.
    """

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.output_layout: OutputLayout = "rows"

    @property
    def bytes(self) -> int:
        """Bytes of the pattern."""
        return self.pattern.bytes

    def __call__(self, x: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``x W^T + b``.

        Args:
            x: float32 [..., in] on the CPU.
            values: float32 [live].
            bias: float32 [out] or None.

        Returns:
            float32 [..., out].

        Raises:
            ArgumentError: There are no compiled kernels, or a type, device or size is another.
        """
        width = self.pattern.shape[1]
        if x.shape[-1] != width:
            raise ArgumentError(f"the input has {x.shape[-1]} features, this layer takes {width}")
        check_values(x, values, bias, self.pattern)
        by_columns = self.output_layout == "columns"
        out = _LiveLinear.apply(x, values, bias, self.pattern, by_columns)  # type: ignore[no-untyped-call]
        return cast(Tensor, out)


def check_values(x: Tensor, values: Tensor, bias: Tensor | None, pattern: Pattern) -> None:
    """Refuse what does not live on the CPU, and values that are not those of a pattern.

    Raises:
        ArgumentError: A type, device or size is another.
    """
    for what, tensor in (("input", x), ("weight", values), ("bias", bias)):
        if tensor is not None and tensor.device.type != "cpu":
            raise ArgumentError(f"the {what} is on {tensor.device}: live weights train on the CPU")
    if values.shape != pattern.columns.shape or values.dtype != torch.float32:
        raise ArgumentError(
            f"values of shape {list(values.shape)} and type {values.dtype} do not fit "
            f"{pattern.columns.numel()} live weights of float32"
        )


def check_type(x: Tensor) -> None:
    """Refuse an input that autocast did not make float32.

    Raises:
        ArgumentError: It has another type.
    """
    if x.dtype != torch.float32:
        raise ArgumentError(f"the input is {x.dtype}: live weights take float32")


def library_or_reason() -> Library:
    """Return the compiled kernels.

    Raises:
        ArgumentError: They are off; the text says why.
    """
    library = kernels()
    if library is None:
        raise ArgumentError(
            f"live weights need the compiled kernels, which are off: {kernel_status().reason}"
        )
    return library


class _LiveLinear(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any,
        x: Tensor,
        values: Tensor,
        bias: Tensor | None,
        pattern: Pattern,
        by_columns: bool,  # noqa: FBT001
    ) -> Tensor:
        check_type(x)
        rows = x.reshape(-1, pattern.shape[1])
        turned = _by_columns(rows)
        ctx.save_for_backward(turned, values)
        ctx.pattern, ctx.shape, ctx.by_columns = pattern, x.shape, not rows.is_contiguous()
        arrays = pattern.starts, pattern.columns, values
        out = _product(turned, arrays, bias, by_columns=by_columns)
        return out.view(*x.shape[:-1], pattern.shape[0])

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (grad,) = gradients
        turned, values = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        rows = grad.reshape(-1, pattern.shape[0])
        to_x = to_values = to_bias = None
        columns = _by_columns(rows)
        if ctx.needs_input_grad[0]:
            turned_values = values.index_select(0, pattern.turn)
            arrays = pattern.turned_starts, pattern.turned_columns, turned_values
            to_x = _product(columns, arrays, None, by_columns=ctx.by_columns).view(ctx.shape)
        if ctx.needs_input_grad[1]:
            to_values = _value_gradient(columns, turned, pattern)
        if ctx.needs_input_grad[2]:
            to_bias = rows.sum(0)
        return to_x, to_values, to_bias, None, None


def _by_columns(rows: Tensor) -> Tensor:
    """Return the contiguous transposed of ``[n, in]``, by the kernels where they can."""
    if not rows.is_contiguous() or rows.dtype != torch.float32:
        return rows.t().contiguous()
    n, width = rows.shape
    out = torch.empty(width, n, dtype=torch.float32, device="cpu")
    threads = torch.get_num_threads()
    library_or_reason().transpose(rows.data_ptr(), n, width, out.data_ptr(), threads=threads)
    return out


def _product(x: Tensor, arrays: Arrays, bias: Tensor | None, *, by_columns: bool) -> Tensor:
    """Return ``[n, out]``, or the transposed view of ``[out, n]``, for ``x`` ``[in, n]``."""
    library, n = library_or_reason(), x.shape[1]
    starts, columns, values = arrays
    values, bias = values.contiguous(), None if bias is None else bias.contiguous()
    shape = (starts.numel() - 1, n) if by_columns else (n, starts.numel() - 1)
    out = torch.empty(shape, dtype=torch.float32, device="cpu")
    library.linear(
        rows_of(library, (starts, columns, values), bias, relu=False),
        x.shape[0],
        x.data_ptr(),
        n,
        out.data_ptr(),
        by_columns=LAYOUTS[True, by_columns],
        threads=torch.get_num_threads(),
    )
    return out.t() if by_columns else out


def _value_gradient(grad: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
    """Return ``[live]`` for the gradient of outputs ``[out, n]`` and inputs ``[in, n]``."""
    library = library_or_reason()
    out = torch.empty(pattern.columns.shape, dtype=torch.float32, device="cpu")
    library.value_gradient(
        rows_of(library, (pattern.starts, pattern.columns, out), None, relu=False),
        grad.data_ptr(),
        x.data_ptr(),
        x.shape[1],
        out.data_ptr(),
        threads=torch.get_num_threads(),
    )
    return out
