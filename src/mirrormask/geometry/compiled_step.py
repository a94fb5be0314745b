"""The short ways of the mirror step in compiled loops.

Through torch a step is a dozen passes over the weight, here it is one. The loops are used where
they are compiled (``mirrormask doctor`` tells) on float32 without gaps in the CPU's memory, and
agree with torch's operations to rounding; their bits are the same on every processor.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mirrormask.geometry.blocks import BLOCK
from mirrormask.kernels import Library, kernels


def squared(a: Tensor) -> Tensor:
    """Return the square of a scale, 0-d, which never underflows: zero could not be left then."""
    return a.clamp(min=math.sqrt(torch.finfo(a.dtype).tiny)).square()


def turn_small_(
    x: Tensor, a: Tensor, gain: Tensor, a_next: Tensor, *, bound: float
) -> list[int] | None:
    """Take the step in place of ``x`` in all blocks without a gain beyond the bound.

    Args:
        x: Weight.
        a: Scale before the step, 0-d.
        gain: Half the move of the dual, shape of ``x``.
        a_next: Scale after the step, 0-d.
        bound: The largest gain for which the loops are exact.

    Returns:
        The numbers of the blocks that are left to do, or None if nothing was done.
    """
    library = _loops_for(x, gain)
    if library is None:
        return None
    return library.advance(
        x.data_ptr(),
        gain.data_ptr(),
        x.numel(),
        BLOCK,
        square=squared(a).item(),
        ratio=(a_next / a).item(),
        bound=bound,
        threads=torch.get_num_threads(),
    )


def shrink_small_(x: Tensor, a: Tensor, t: Tensor) -> bool:
    """Soft-threshold the dual by a small ``t``, 0-d, in place of ``x``; return whether done."""
    library = _loops_for(x)
    if library is None:
        return False
    library.shrink(
        x.data_ptr(),
        x.numel(),
        square=squared(a).item(),
        tanh=torch.tanh(t).item(),
        cosh=torch.cosh(t).item(),
        threads=torch.get_num_threads(),
    )
    return True


def _loops_for(*tensors: Tensor) -> Library | None:
    for tensor in tensors:
        plain = tensor.device.type == "cpu" and tensor.dtype == torch.float32
        if not (plain and tensor.is_contiguous() and tensor.numel()):
            return None
    return kernels()
