"""The sparse convolution as one operator, for torch.compile and torch.export."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mirrormask.deploy.conv_product import ConvGeometry, convolve
from mirrormask.deploy.csr import csr_tensor, dense_to_csr
from mirrormask.deploy.kernel_conv import ConvKernel
from mirrormask.deploy.kernel_linear import kernels_for


def split_matrices(
    row_starts: torch.Tensor, columns: torch.Tensor, values: torch.Tensor, geometry: ConvGeometry
) -> list[torch.Tensor | None]:
    """Return one CSR view per kernel offset of a matrix with rows (offset, out channel)."""
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


def matrices_of(
    row_starts: torch.Tensor,
    columns: torch.Tensor,
    values: torch.Tensor,
    form: str,
    geometry: ConvGeometry,
) -> list[torch.Tensor | None]:
    """Return what torch multiplies with for a kernel of any form: one matrix, or one an offset."""
    if form == "shifts":
        return split_matrices(row_starts, columns, values, geometry)
    width = geometry.in_channels * geometry.kernel[0] * geometry.kernel[1]
    if form == "kernel":
        # The kernels count (channel, tap), the stacked views below each other (tap, channel).
        taps = geometry.kernel[0] * geometry.kernel[1]
        order = torch.arange(width).reshape(-1, taps).t().reshape(-1)
        wide = csr_tensor(row_starts, columns, values, (geometry.out_channels, width)).to_dense()
        again = dense_to_csr(wide[:, order])
        return [csr_tensor(*again, (geometry.out_channels, width))]
    return [csr_tensor(row_starts, columns, values, (geometry.out_channels, width))]


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
    library = kernels_for(values) if form == "kernel" else None
    if library is not None:
        arrays = (row_starts, columns, values)
        # Anybody may call an operator, or load a program that does, so nothing is trusted.
        return ConvKernel(library, arrays, bias, geometry, relu=relu, check=True)(x)
    matrices = matrices_of(row_starts, columns, values, form, geometry)
    out = convolve(x, matrices, bias, geometry)
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
