"""The sparse convolution as one operator, for torch.compile and torch.export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from mirrormask.deploy.conv_product import ConvGeometry, Products, convolve
from mirrormask.deploy.csr import check_bias, check_csr, csr_tensor
from mirrormask.deploy.kernel_conv import ConvKernel
from mirrormask.deploy.kernel_linear import kernels_for
from mirrormask.deploy.made import Arrays, made_for
from mirrormask.errors import ArgumentError

ConvForm = Literal["kernel", "shifts", "columns"]
CONV_FORMS: tuple[ConvForm, ...] = ("kernel", "shifts", "columns")


def matrix_shape(form: ConvForm, geometry: ConvGeometry) -> tuple[int, int]:
    """Return the shape of the CSR matrix that holds a kernel.

    ``"shifts"`` has a row for each (offset, out channel), the other forms a column for each
    (in channel, offset).
    """
    offsets = geometry.kernel[0] * geometry.kernel[1]
    if form == "shifts":
        return offsets * geometry.out_channels, geometry.in_channels
    return geometry.out_channels, geometry.in_channels * offsets


def conv_product(
    arrays: Arrays,
    bias: torch.Tensor | None,
    form: ConvForm,
    geometry: ConvGeometry,
    *,
    relu: bool,
) -> ConvKernel | Products:
    """Return the checked kernel as the compiled code sees it, or as CSR tensors of torch.

    Torch multiplies with one matrix, or for ``"shifts"`` with one for each offset. It takes the
    place of ``"kernel"`` where that is missing.
    """
    shape = matrix_shape(form, geometry)
    check_csr(arrays, shape)
    check_bias(bias, geometry.out_channels, arrays[2])
    library = kernels_for(arrays[2]) if form == "kernel" else None
    if library is not None:
        return ConvKernel(library, arrays, bias, geometry, relu=relu)
    return _split(arrays, geometry) if form == "shifts" else [csr_tensor(*arrays, shape)]


def _split(arrays: Arrays, geometry: ConvGeometry) -> Products:
    """Return one CSR view per kernel offset of a matrix with rows (offset, out channel)."""
    row_starts, columns, values = arrays
    matrices: list[torch.Tensor | None] = []
    out = geometry.out_channels
    for offset in range(geometry.kernel[0] * geometry.kernel[1]):
        starts = row_starts[offset * out : (offset + 1) * out + 1]
        begin, end = int(starts[0]), int(starts[-1])
        if begin == end:
            matrices.append(None)
            continue
        shape = (out, geometry.in_channels)
        matrices.append(csr_tensor(starts - begin, columns[begin:end], values[begin:end], shape))
    return matrices


@torch.library.custom_op("mirrormask::sparse_conv2d", mutates_args=())
def sparse_conv2d_op(
    x: torch.Tensor,
    row_starts: torch.Tensor,
    columns: torch.Tensor,
    values: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    form: str,
    sizes: Sequence[int],
    padding_mode: str,
    relu: bool = False,
) -> torch.Tensor:
    """Convolve ``[n, in, h, w]`` with a CSR kernel as one opaque operator."""
    geometry = ConvGeometry.from_numbers(sizes, padding_mode)
    if form not in CONV_FORMS:
        raise ArgumentError(f"form={form!r} is unknown: choose one of {', '.join(CONV_FORMS)}")

    def make(arrays: Arrays) -> ConvKernel | Products:
        return conv_product(arrays, bias, form, geometry, relu=relu)

    # Anybody may call an operator, or load a program that does, so nothing is trusted.
    options = (form, geometry, relu)
    made = made_for((row_starts, columns, values), bias, options, make)
    if isinstance(made, ConvKernel):
        return made(x)
    out = convolve(x, made, bias, geometry)
    return out.relu_() if relu else out


@sparse_conv2d_op.register_fake
def _(
    x: torch.Tensor,
    row_starts: torch.Tensor,
    columns: torch.Tensor,
    values: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    form: str,
    sizes: Sequence[int],
    padding_mode: str,
    relu: bool = False,
) -> torch.Tensor:
    geometry = ConvGeometry.from_numbers(sizes, padding_mode)
    image = geometry.output_size(x.shape[2], x.shape[3])
    return x.new_empty((x.shape[0], geometry.out_channels, *image))
