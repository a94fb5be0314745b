"""Convolutions that multiply only with the weights that are not zero, in stock torch.

Two forms. ``"shifts"``: flatten the padded image of each channel; an offset of the kernel is then
a shift of the flat image, so the convolution is a sum of one CSR product per kernel offset over
shifted *views*, without im2col. ``"columns"``: lay the shifted views below each other and do one
CSR product, which has fewer calls and is better on small images. A stride is served by splitting
the padded image into its stride x stride phases first; dilation moves the offsets; groups are
blocks of columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch.nn.functional import pad

from mirrormask.errors import ArgumentError

# Floats of one padded block of images: about what a core's second-level cache holds.
_BLOCK_FLOATS = 2**18


@dataclass(frozen=True, kw_only=True)
class ConvGeometry:
    """Sizes of a 2-D convolution; ``padding`` is (left, right, top, bottom), as in ``pad``."""

    out_channels: int
    in_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]
    padding_mode: str

    def numbers(self) -> list[int]:
        """Return all sizes as one flat list, the form that an operator can take."""
        return [
            self.out_channels,
            self.in_channels,
            *self.kernel,
            *self.stride,
            *self.dilation,
            *self.padding,
        ]

    @classmethod
    def from_numbers(cls, numbers: Sequence[int], padding_mode: str) -> Self:
        """Return the geometry that :meth:`numbers` was made from."""
        out, channels, kh, kw, sh, sw, dh, dw, left, right, top, bottom = numbers
        return cls(
            out_channels=out,
            in_channels=channels,
            kernel=(kh, kw),
            stride=(sh, sw),
            dilation=(dh, dw),
            padding=(left, right, top, bottom),
            padding_mode=padding_mode,
        )

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the output for an input image."""
        left, right, top, bottom = self.padding
        padded = (height + top + bottom, width + left + right)
        sizes = [
            (padded[axis] - self.dilation[axis] * (self.kernel[axis] - 1) - 1) // self.stride[axis]
            + 1
            for axis in (0, 1)
        ]
        if min(sizes) < 1:
            raise ArgumentError(
                f"an image of {height} x {width} is smaller than the kernel {self.kernel}"
            )
        return sizes[0], sizes[1]


Products = Sequence[torch.Tensor | None]


def convolve(
    x: torch.Tensor, matrices: Products, bias: torch.Tensor | None, geometry: ConvGeometry
) -> torch.Tensor:
    """Return the convolution of ``x`` ``[n, in, h, w]`` with CSR matrices.

    ``matrices`` is either one matrix ``[out, in * offsets]`` or one ``[out, in]`` per offset.
    """
    out_h, out_w = geometry.output_size(x.shape[2], x.shape[3])
    out = x.new_empty((x.shape[0], geometry.out_channels, out_h, out_w))
    left, right, top, bottom = geometry.padding
    floats = (x.shape[2] + top + bottom) * (x.shape[3] + left + right) * geometry.in_channels
    block = max(1, _BLOCK_FLOATS // max(1, floats))
    for start in range(0, x.shape[0], block):
        images = x[start : start + block].transpose(0, 1)
        part = _convolve_block(images, matrices, geometry, (out_h, out_w)).transpose(0, 1)
        if bias is None:
            out[start : start + block].copy_(part)
        else:
            torch.add(part, bias[:, None, None], out=out[start : start + block])
    return out


def _convolve_block(
    images: torch.Tensor, matrices: Products, geometry: ConvGeometry, out_size: tuple[int, int]
) -> torch.Tensor:
    """Convolve ``[in, n, h, w]`` and return a view ``[out, n, out_h, out_w]``."""
    phases, height, width = _phases(images, geometry)
    count = images.shape[1]
    # The last output pixel of the last image; what lies between rows and images is thrown away.
    length = (count - 1) * height * width + (out_size[0] - 1) * width + out_size[1]
    views = [phase[:, shift : shift + length] for phase, shift in _offsets(phases, geometry, width)]
    if len(matrices) == 1 and len(views) > 1:
        assert matrices[0] is not None
        flat = torch.mm(matrices[0], torch.stack(views, 1).flatten(0, 1))
    else:
        flat = _sum_products(matrices, views, geometry.out_channels)
    strides = (length, height * width, width, 1)
    return flat.as_strided((geometry.out_channels, count, *out_size), strides)


def _sum_products(matrices: Products, views: list[torch.Tensor], channels: int) -> torch.Tensor:
    total: torch.Tensor | None = None
    for matrix, view in zip(matrices, views, strict=True):
        if matrix is None:
            continue
        if total is None:
            total = torch.mm(matrix, view)
        else:
            torch.addmm(total, matrix, view, out=total)
    return views[0].new_zeros((channels, views[0].shape[1])) if total is None else total


def _phases(images: torch.Tensor, geometry: ConvGeometry) -> tuple[list[torch.Tensor], int, int]:
    """Return the padded images split by stride, each ``[in, n * height * width]``."""
    mode = "constant" if geometry.padding_mode == "zeros" else geometry.padding_mode
    if any(geometry.padding):
        images = pad(images, list(geometry.padding), mode=mode)
    rows, columns = geometry.stride
    if rows == columns == 1:
        return [images.reshape(images.shape[0], -1)], images.shape[2], images.shape[3]
    # Every phase must have the same size, so the image is filled up to a multiple of the stride.
    fill = (-images.shape[3] % columns, -images.shape[2] % rows)
    if any(fill):
        images = pad(images, (0, fill[0], 0, fill[1]))
    height, width = images.shape[2] // rows, images.shape[3] // columns
    parts = [images[:, :, i::rows, j::columns] for i in range(rows) for j in range(columns)]
    return [part.reshape(images.shape[0], -1) for part in parts], height, width


def _offsets(
    phases: list[torch.Tensor], geometry: ConvGeometry, width: int
) -> list[tuple[torch.Tensor, int]]:
    rows, columns = geometry.stride
    found = []
    for i in range(geometry.kernel[0]):
        for j in range(geometry.kernel[1]):
            y, x = i * geometry.dilation[0], j * geometry.dilation[1]
            phase = phases[(y % rows) * columns + x % columns]
            found.append((phase, (y // rows) * width + x // columns))
    return found
