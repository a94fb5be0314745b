"""The compiled convolution, called with tensors."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch.nn.functional import pad

from mirrormask.deploy.conv_product import ConvGeometry
from mirrormask.deploy.kernel_linear import check_arrays
from mirrormask.errors import ArgumentError
from mirrormask.kernels import Conv, Library, Rows

# Plans hold one offset per weight: a few image sizes at a time are enough.
_PLANS = 4


class ConvKernel:
    """A sparse convolution as the kernels see it, planned anew for each size of image.

    ``arrays`` are CSR with columns ``(channel * kernel_h + y) * kernel_w + x``.

    Raises:
        ArgumentError: ``check`` was asked for, and the arrays do not fit the geometry.
    """

    def __init__(
        self,
        library: Library,
        arrays: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        bias: torch.Tensor | None,
        geometry: ConvGeometry,
        *,
        relu: bool = False,
        check: bool = False,
    ) -> None:
        starts, columns, values = arrays
        self.arrays = starts.contiguous(), columns.contiguous(), values.contiguous()
        self.bias = None if bias is None else bias.contiguous()
        if check:
            width = geometry.in_channels * geometry.kernel[0] * geometry.kernel[1]
            if starts.numel() != geometry.out_channels + 1:
                raise ArgumentError(f"the kernel has not {geometry.out_channels} rows")
            check_arrays(library, self.arrays, self.bias, width)
        self.geometry, self._relu, self._library = geometry, relu, library
        self._plans: OrderedDict[torch.Size, tuple[Conv, Rows, torch.Tensor]] = OrderedDict()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolution of ``x`` ``[n, in, h, w]``."""
        geometry = self.geometry
        if x.dtype != torch.float32 or x.device.type != "cpu":
            raise ArgumentError(f"the input is {x.dtype} on {x.device}: give float32 on the CPU")
        if geometry.padding_mode != "zeros" and any(geometry.padding):
            x = pad(x, list(geometry.padding), mode=geometry.padding_mode)
        x = x.contiguous()
        conv, rows, _ = self._plan(x.shape)
        out = torch.empty((x.shape[0], geometry.out_channels, conv.out_height, conv.out_width))
        self._library.conv2d(
            conv, rows, x.data_ptr(), out.data_ptr(), threads=torch.get_num_threads()
        )
        return out

    def _plan(self, shape: torch.Size) -> tuple[Conv, Rows, torch.Tensor]:
        found = self._plans.get(shape)
        if found is None:
            found = self._plans[shape] = self._new_plan(shape)
            while len(self._plans) > _PLANS:
                self._plans.popitem(last=False)
        return found

    def _new_plan(self, shape: torch.Size) -> tuple[Conv, Rows, torch.Tensor]:
        geometry = self.geometry
        images, channels, height, width = shape
        if geometry.padding_mode == "zeros":
            geometry.output_size(height, width)
        padding = geometry.padding if geometry.padding_mode == "zeros" else (0, 0, 0, 0)
        conv = Conv(
            channels=channels,
            height=height,
            width=width,
            images=images,
            kernel=geometry.kernel,
            stride=geometry.stride,
            dilation=geometry.dilation,
            pad=padding,
        )
        if not self._library.plan(conv):
            raise ArgumentError(
                f"images of shape {list(shape)} do not fit the kernel {geometry.kernel}, or are "
                "too large for one call: give fewer or smaller images"
            )
        starts, columns, values = self.arrays
        offsets = torch.empty_like(columns)
        self._library.offsets(conv, columns.data_ptr(), columns.numel(), offsets.data_ptr())
        rows = self._library.rows(
            geometry.out_channels,
            starts=starts.data_ptr(),
            columns=offsets.data_ptr(),
            values=values.data_ptr(),
            bias=None if self.bias is None else self.bias.data_ptr(),
            relu=self._relu,
        )
        return conv, rows, offsets
