"""Convolution layers that multiply only with the weights that are not zero."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Self, cast

import torch
from torch import nn
from torch.nn.functional import pad

from mirrormask.deploy.conv_operator import (
    CONV_FORMS,
    ConvForm,
    conv_product,
    matrix_shape,
    sparse_conv2d_op,
)
from mirrormask.deploy.conv_product import ConvGeometry, Products, convolve
from mirrormask.deploy.csr import CsrModule, check_bias, is_recording
from mirrormask.deploy.decode import CsrArrays
from mirrormask.deploy.kernel_conv import ConvKernel
from mirrormask.deploy.sparse_linear import csr_of_matrix
from mirrormask.errors import ArgumentError

Conv = nn.Conv1d | nn.Conv2d


class SparseConv2d(CsrModule):
    """``nn.Conv2d`` with its kernel in CSR form; for inference on CPU.

    Shapes: input ``[n, in, h, w]`` or ``[in, h, w]``, output ``[n, out, h', w']`` or without n.
    Strides, padding of every mode, dilation and groups are supported. ``form`` is ``"kernel"`` for
    the compiled kernels, whose place torch takes where they are missing, or one of those described
    in :mod:`mirrormask.deploy.conv_product`. ``relu`` applies that function to the result.

    Raises:
        ArgumentError: The kernel is not float32/float64 on the CPU, or the input does not fit.

    Example:
        >>> import torch
        >>> dense = torch.nn.Conv2d(8, 4, 3, padding=1, stride=2)
        >>> _ = dense.weight.data[:, 2:].zero_()
        >>> x = torch.randn(2, 8, 9, 9)
        >>> torch.allclose(SparseConv2d.from_conv(dense)(x), dense(x), atol=1e-5)
        True
    """

    bias: torch.Tensor | None

    def __init__(
        self, csr: CsrArrays, bias: torch.Tensor | None, form: ConvForm, geometry: ConvGeometry
    ) -> None:
        super().__init__(csr)
        if form not in CONV_FORMS:
            raise ArgumentError(f"form={form!r} is unknown: choose one of {', '.join(CONV_FORMS)}")
        if csr.shape != matrix_shape(form, geometry):
            raise ArgumentError(f"a matrix of shape {csr.shape} is no kernel of form {form!r}")
        check_bias(bias, geometry.out_channels, csr.values)
        self.register_buffer("bias", None if bias is None else bias.detach())
        self.form: ConvForm = form
        self.geometry = geometry
        self.relu = False

    @classmethod
    def from_conv(cls, conv: Conv, form: ConvForm = "kernel") -> Self:
        """Build the sparse twin of a dense layer; its weights are copied.

        Raises:
            ArgumentError: The weights are not float32 or float64 on the CPU.
        """
        geometry = geometry_of(conv)
        kernel = _ungrouped(conv)
        if form == "shifts":
            matrix = kernel.permute(2, 3, 0, 1).reshape(-1, geometry.in_channels)
        else:
            matrix = kernel.reshape(geometry.out_channels, -1)
        bias = None if conv.bias is None else conv.bias.detach().clone()
        return cls(csr_of_matrix(matrix), bias, form, geometry)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolution of ``x``; no gradient flows."""
        if x.ndim not in (3, 4) or x.shape[-3] != self.geometry.in_channels:
            raise ArgumentError(
                f"an input of shape {list(x.shape)} does not have the "
                f"{self.geometry.in_channels} channels of this layer"
            )
        images = x if x.ndim == 4 else x[None]
        out = self._convolve(images)
        return out if x.ndim == 4 else out[0]

    def _convolve(self, images: torch.Tensor) -> torch.Tensor:
        geometry = self.geometry
        if is_recording():
            opaque: torch.Tensor = sparse_conv2d_op(
                images,
                self.row_starts,
                self.columns,
                self.values,
                self.bias,
                form=self.form,
                sizes=geometry.numbers(),
                padding_mode=geometry.padding_mode,
                relu=self.relu,
            )
            return opaque
        if torch.is_grad_enabled():
            with torch.no_grad():
                return self._multiply(images)
        return self._multiply(images)

    def _multiply(self, images: torch.Tensor) -> torch.Tensor:
        made: ConvKernel | Products = self.made()
        if isinstance(made, ConvKernel):
            return made(images)
        out = convolve(images, made, self.bias, self.geometry)
        return out.relu_() if self.relu else out

    def options(self) -> Hashable:
        """Return what else decides how the product is made."""
        return self.form, self.relu

    def make(self) -> ConvKernel | Products:
        """Build the kernel's view, or the CSR tensors, one a kernel offset or one in all."""
        return conv_product(self.arrays, self.bias, self.form, self.geometry, relu=self.relu)

    def dense_kernel(self) -> torch.Tensor:
        """Return the kernel ``[out, in, kh, kw]``, groups written out as zeros."""
        geometry = self.geometry
        if self.form == "shifts":
            sizes = (*geometry.kernel, geometry.out_channels, geometry.in_channels)
            return self.dense_matrix().reshape(sizes).permute(2, 3, 0, 1).contiguous()
        sizes = (geometry.out_channels, geometry.in_channels, *geometry.kernel)
        return self.dense_matrix().reshape(sizes)

    def to_dense(self) -> nn.Module:
        """Return an ordinary layer that computes the same; groups are written out as zeros."""
        geometry = self.geometry
        mode = "constant" if geometry.padding_mode == "zeros" else geometry.padding_mode
        conv = nn.Conv2d(
            geometry.in_channels,
            geometry.out_channels,
            geometry.kernel,
            stride=geometry.stride,
            dilation=geometry.dilation,
            bias=self.bias is not None,
            dtype=self.values.dtype,
        )
        with torch.no_grad():
            conv.weight.copy_(self.dense_kernel())
            if self.bias is not None and conv.bias is not None:
                conv.bias.copy_(self.bias)
        tail = [nn.ReLU()] if self.relu else []
        return nn.Sequential(_Pad(geometry.padding, mode), conv, *tail).requires_grad_(False)

    def extra_repr(self) -> str:
        """Describe sizes and sparsity."""
        geometry = self.geometry
        return (
            f"{geometry.in_channels}, {geometry.out_channels}, kernel_size={geometry.kernel}, "
            f"stride={geometry.stride}, {self.nonzeros} weights, form={self.form!r}"
        )


class SparseConv1d(SparseConv2d):
    """``nn.Conv1d`` with its kernel in CSR form: a 2-D convolution of images one pixel high.

    Shapes: input ``[n, in, w]`` or ``[in, w]``, output ``[n, out, w']`` or without n.

    Example:
        >>> import torch
        >>> dense = torch.nn.Conv1d(8, 4, 5, dilation=2)
        >>> x = torch.randn(2, 8, 20)
        >>> torch.allclose(SparseConv1d.from_conv(dense)(x), dense(x), atol=1e-5)
        True
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolution of ``x``; no gradient flows."""
        if x.ndim not in (2, 3) or x.shape[-2] != self.geometry.in_channels:
            raise ArgumentError(
                f"an input of shape {list(x.shape)} does not have the "
                f"{self.geometry.in_channels} channels of this layer"
            )
        lines = x if x.ndim == 3 else x[None]
        out = self._convolve(lines[:, :, None, :])[:, :, 0, :]
        return out if x.ndim == 3 else out[0]

    def to_dense(self) -> nn.Module:
        """Return an ordinary layer that computes the same; groups are written out as zeros."""
        return _AsImages(super().to_dense())


class _Pad(nn.Module):
    """Padding of each side on its own, which ``nn.Conv2d`` cannot express."""

    def __init__(self, sides: Sequence[int], mode: str) -> None:
        super().__init__()
        self.sides, self.mode = list(sides), mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pad(x, self.sides, mode=self.mode) if any(self.sides) else x


class _AsImages(nn.Module):
    """Run a 2-D layer on lines."""

    def __init__(self, images: nn.Module) -> None:
        super().__init__()
        self.images = images

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.images(x[..., None, :])
        return out[..., 0, :]


def geometry_of(conv: Conv) -> ConvGeometry:
    """Return the sizes of a dense convolution as those of a 2-D one."""
    one = (1,) * (2 - len(conv.kernel_size))
    padding = [0, 0, 0, 0]
    # Torch keeps exactly what F.pad needs here, also for "same" with its uneven sides.
    reversed_twice = conv._reversed_padding_repeated_twice
    padding[: len(reversed_twice)] = reversed_twice
    kernel, stride, dilation = (
        cast(tuple[int, int], (*one, *sizes))
        for sizes in (conv.kernel_size, conv.stride, conv.dilation)
    )
    return ConvGeometry(
        out_channels=conv.out_channels,
        in_channels=conv.in_channels,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=(padding[0], padding[1], padding[2], padding[3]),
        padding_mode=conv.padding_mode,
    )


def _ungrouped(conv: Conv) -> torch.Tensor:
    """Return the kernel ``[out, in, kh, kw]`` of the equal convolution without groups."""
    weight = conv.weight.detach()
    weight = weight[:, :, None] if weight.ndim == 3 else weight
    if conv.groups == 1:
        return weight
    out, width = weight.shape[0] // conv.groups, weight.shape[1]
    full = weight.new_zeros((weight.shape[0], conv.in_channels, *weight.shape[2:]))
    for group in range(conv.groups):
        rows = slice(group * out, (group + 1) * out)
        full[rows, group * width : (group + 1) * width] = weight[rows]
    return full
