"""The compiled convolution, called with tensors."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from mirrormask.deploy.conv_plans import ConvPlan, plan_conv
from mirrormask.deploy.conv_product import ConvGeometry
from mirrormask.deploy.kernel_linear import rows_of
from mirrormask.deploy.made import Arrays
from mirrormask.errors import ArgumentError
from mirrormask.kernels import Conv, Library

# Plans hold one offset per weight: a few image sizes at a time are enough.
_PLANS = 4


class ConvKernel:
    """A sparse convolution as the kernels see it, planned anew for each size of image.

    ``arrays`` are CSR with columns ``(channel * kernel_h + y) * kernel_w + x``, and were checked.
    Several threads may call it at once.
    """

    def __init__(
        self,
        library: Library,
        arrays: Arrays,
        bias: torch.Tensor | None,
        geometry: ConvGeometry,
        *,
        relu: bool = False,
    ) -> None:
        starts, columns, values = arrays
        self._arrays = starts.contiguous(), columns.contiguous(), values.contiguous()
        self._bias = None if bias is None else bias.contiguous()
        self.geometry, self._library = geometry, library
        self._rows = rows_of(library, self._arrays, self._bias, relu=relu)
        self.plans: dict[torch.Size, ConvPlan] = {}

    @property
    def extra_bytes(self) -> int:
        """Bytes held besides the arrays that were given: those of each plan."""
        return sum(plan.bytes for plan in self.plans.values())

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolution of ``x`` ``[n, in, h, w]``.

        Raises:
            ArgumentError: ``x`` is not float32 on the CPU, or does not fit the kernel.
        """
        geometry = self.geometry
        if x.dtype != torch.float32 or x.device.type != "cpu":
            raise ArgumentError(f"the input is {x.dtype} on {x.device}: give float32 on the CPU")
        if x.ndim != 4 or x.shape[1] != geometry.in_channels:
            raise ArgumentError(
                f"an input of shape {list(x.shape)} has not {geometry.in_channels} channels"
            )
        if geometry.padding_mode != "zeros" and any(geometry.padding):
            x = pad(x, list(geometry.padding), mode=geometry.padding_mode)
        x = x.contiguous()
        plan = self._plan(x.shape)
        sizes = plan.conv.out_height, plan.conv.out_width
        out = torch.empty(
            (x.shape[0], geometry.out_channels, *sizes), dtype=torch.float32, device="cpu"
        )
        plan.run(x.data_ptr(), out.data_ptr(), threads=torch.get_num_threads())
        return out

    def _plan(self, shape: torch.Size) -> ConvPlan:
        found = self.plans.get(shape)
        if found is None:
            found = self._new_plan(shape)
            # The oldest goes. A new dictionary: other threads may be looking into this one.
            self.plans = dict([*list(self.plans.items())[1 - _PLANS :], (shape, found)])
        return found

    def _new_plan(self, shape: torch.Size) -> ConvPlan:
        geometry = self.geometry
        height, width = shape[-2:]
        if geometry.padding_mode == "zeros":
            geometry.output_size(height, width)
        padding = geometry.padding if geometry.padding_mode == "zeros" else (0, 0, 0, 0)
        conv = conv_of(geometry, shape, padding)
        return plan_conv(self._library, conv, self._rows, self._arrays)


def conv_of(geometry: ConvGeometry, shape: torch.Size, padding: tuple[int, int, int, int]) -> Conv:
    """Describe a convolution of images ``[n, channels, h, w]`` to the kernels, not planned yet."""
    images, channels, height, width = shape
    return Conv(
        channels=channels,
        height=height,
        width=width,
        images=images,
        kernel=geometry.kernel,
        stride=geometry.stride,
        dilation=geometry.dilation,
        pad=padding,
    )
