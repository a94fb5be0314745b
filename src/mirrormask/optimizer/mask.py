"""A mask as bits: one byte a weight, all ones where it is kept and 0 where it is cut.

A bitwise and is much faster than filling by a boolean mask, and unlike a product it clears infinity
and NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mirrormask.ranks import SAME_SIZE


def bits_of(cut: Tensor) -> Tensor:
    """Return the bits of a mask that is True where a weight is cut."""
    return -(~cut).to(torch.int8)


def clear(tensor: Tensor, bits: Tensor) -> None:
    """Put +0 in place where the bits are 0, whatever was there."""
    tensor.detach().view(SAME_SIZE[tensor.element_size()]).bitwise_and_(bits)
