"""A convolution and its gradients, on live weights only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mirrormask.deploy.conv_product import ConvGeometry
from mirrormask.deploy.kernel_conv import conv_of
from mirrormask.deploy.kernel_linear import rows_of
from mirrormask.errors import ArgumentError
from mirrormask.kernels import Live
from mirrormask.live.pattern import Pattern
from mirrormask.live.product import check_type, check_values, library_or_reason

# Plans hold two offsets per weight: a few image sizes at a time are enough.
_PLANS = 4


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A convolution for inputs of one shape and layout, and what each weight meets in it."""

    live: Live
    offsets: Tensor
    turned_offsets: Tensor
    format: torch.memory_format


class ConvProduct:
    """A convolution whose live weights are at the places of a pattern; it is 0 elsewhere.

    Gradients reach input, values and bias; they cannot be differentiated once more. Under autocast
    it is float32, as its weights are. Padding is with zeros.

    Args:
        pattern: Of the kernel.
        geometry: Of the convolution; one of signals is one of images one pixel high.
    """

    def __init__(self, pattern: Pattern, geometry: ConvGeometry) -> None:
        self.pattern, self.geometry = pattern, geometry
        self._plans: dict[tuple[torch.Size, bool], _Plan] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plans": {}}

    @property
    def bytes(self) -> int:
        """Bytes of the pattern, and of the offsets for the sizes met last."""
        offsets = [t for p in self._plans.values() for t in (p.offsets, p.turned_offsets)]
        return self.pattern.bytes + sum(tensor.numel() * tensor.itemsize for tensor in offsets)

    def __call__(self, x: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """Return the convolution in the layout of its input, channels last or not.

        Args:
            x: float32 [n, in, h, w] on the CPU, [n, in, w] for a kernel of one dimension, or
                without n.
            values: float32 [live].
            bias: float32 [out] or None.

        Returns:
            float32 [n, out, h', w'], without what the input is without.

        Raises:
            ArgumentError: There are no compiled kernels, or a type, device or size is another.
        """
        whole = len(self.pattern.shape)
        if x.ndim not in (whole - 1, whole) or x.shape[1 - whole] != self.geometry.in_channels:
            raise ArgumentError(
                f"an input of shape {list(x.shape)} does not have the "
                f"{self.geometry.in_channels} channels of this layer"
            )
        check_values(x, values, bias, self.pattern)
        images = x if x.ndim == whole else x[None]
        images = images if whole == 4 else images.unsqueeze(-2)
        out = cast(Tensor, _Convolution.apply(images, values, bias, self))  # type: ignore[no-untyped-call]
        out = out if whole == 4 else out.squeeze(-2)
        return out if x.ndim == whole else out[0]

    def plan(self, x: Tensor) -> _Plan:
        """Return the plan for inputs like this one.

        Raises:
            ArgumentError: They are smaller than the kernel, or too large.
        """
        # Torch's own sign of that layout, also for images of one channel.
        last = x.stride(1) == 1 and x.is_contiguous(memory_format=torch.channels_last)
        key = x.shape, last and x.stride(3) == x.shape[1]
        found = self._plans.get(key)
        if found is None:
            found = self._new_plan(*key)
            # The oldest goes. A new dictionary: other threads may be looking into this one.
            self._plans = dict([*list(self._plans.items())[1 - _PLANS :], (key, found)])
        return found

    def _new_plan(self, shape: torch.Size, channels_last: bool) -> _Plan:  # noqa: FBT001
        geometry, pattern, library = self.geometry, self.pattern, library_or_reason()
        geometry.output_size(*shape[-2:])
        conv = conv_of(geometry, shape, geometry.padding)
        live = Live(conv=conv, outputs=geometry.out_channels, channels_last=channels_last)
        if not library.live.plan(live):
            raise ArgumentError(
                f"images of shape {list(shape)} are too large for one call: give fewer or smaller"
            )
        columns, turned_columns = pattern.columns, pattern.turned_columns
        offsets, turned = torch.empty_like(columns), torch.empty_like(columns)
        library.live.offsets(live, columns.data_ptr(), columns.numel(), offsets.data_ptr())
        library.live.turned_offsets(
            live, turned_columns.data_ptr(), columns.numel(), turned.data_ptr()
        )
        form = torch.channels_last if channels_last else torch.contiguous_format
        return _Plan(live=live, offsets=offsets, turned_offsets=turned, format=form)


class _Convolution(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, product: ConvProduct
    ) -> Tensor:
        check_type(x)
        library, plan, pattern = library_or_reason(), product.plan(x), product.pattern
        x, values = x.contiguous(memory_format=plan.format), values.contiguous()
        bias = None if bias is None else bias.contiguous()
        ctx.save_for_backward(x, values)
        ctx.product, ctx.plan = product, plan
        conv = plan.live.conv
        shape = (x.shape[0], pattern.shape[0], conv.out_height, conv.out_width)
        out = torch.empty(shape, memory_format=plan.format, device="cpu", dtype=torch.float32)
        rows = rows_of(library, (pattern.starts, plan.offsets, values), bias, relu=False)
        library.live.forward(
            plan.live, rows, x.data_ptr(), out.data_ptr(), threads=torch.get_num_threads()
        )
        return out

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (grad,) = gradients
        x, values = ctx.saved_tensors
        plan: _Plan = ctx.plan
        library, pattern = library_or_reason(), cast(Pattern, ctx.product.pattern)
        grad = grad.contiguous(memory_format=plan.format)
        to_x = to_values = to_bias = turned = None
        if ctx.needs_input_grad[0]:
            to_x = torch.empty(x.shape, memory_format=plan.format, device="cpu")
            turned_values = values.index_select(0, pattern.turn)
            arrays = (pattern.turned_starts, plan.turned_offsets, turned_values)
            turned = rows_of(library, arrays, None, relu=False)
        if ctx.needs_input_grad[1]:
            to_values = torch.empty_like(values)
        if to_x is not None or to_values is not None:
            library.live.backward(
                plan.live,
                rows_of(library, (pattern.starts, plan.offsets, values), None, relu=False),
                turned,
                x.data_ptr(),
                grad.data_ptr(),
                to_x=None if to_x is None else to_x.data_ptr(),
                to_values=None if to_values is None else to_values.data_ptr(),
                threads=torch.get_num_threads(),
            )
        if ctx.needs_input_grad[2]:
            to_bias = grad.sum((0, 2, 3))
        return to_x, to_values, to_bias, None
