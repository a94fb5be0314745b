"""Work in pieces that stay in the processor's cache."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 1 << 16
"""Elements handled at once: a dozen temporaries of this size fit a core's cache."""


def blocks(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return views that tile a tensor; one view where the memory has gaps or is not the CPU's.

    Tensors of one shape and layout are tiled alike, so that their blocks can be zipped.

    Example:
        >>> [len(block) for block in blocks(torch.zeros(70_000))]
        [65536, 4464]
    """
    if tensor.device.type != "cpu" or not tensor.is_contiguous() or tensor.numel() <= BLOCK:
        return (tensor,)
    return torch.split(tensor.view(-1), BLOCK)
