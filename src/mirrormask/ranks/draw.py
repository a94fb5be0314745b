"""Uniform random numbers for a tensor, the same ones however it is sharded."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from mirrormask.ranks.box import Box, is_sharded

CHUNK = 1 << 16
"""Numbers drawn at once while those of other ranks are passed over."""


def draw(like: Tensor, generator: Generator) -> Tensor:
    """Return a float32 draw from [0, 1) for each element, in the shape and place of ``like``.

    Each rank draws the whole sequence, keeps its own part and holds no more than that.

    Args:
        like: Any tensor, plain or sharded.
        generator: On the CPU, in the same state on all ranks; it is advanced by the whole.

    Example:
        >>> draw(torch.zeros(2, 3), Generator().manual_seed(0)).shape
        torch.Size([2, 3])
    """
    if not is_sharded(like):
        return torch.rand(like.shape, generator=generator).to(like.device)
    box = Box.of(like)
    rows = math.prod(box.shape[1:])
    # Whole rows that this rank has a part of; the columns it has not are dropped at the end.
    begin, end = (n * rows for n in (box.starts[0], box.starts[0] + box.lengths[0]))
    _pass_over(begin, generator)
    drawn = torch.rand((box.lengths[0], *box.shape[1:]), generator=generator)
    _pass_over(math.prod(box.shape) - end, generator)
    columns = tuple(
        slice(start, start + length)
        for start, length in zip(box.starts[1:], box.lengths[1:], strict=True)
    )
    return box.wrap(drawn[(slice(None), *columns)].contiguous().to(like.device))


def _pass_over(count: int, generator: Generator) -> None:
    for begin in range(0, count, CHUNK):
        torch.rand(min(CHUNK, count - begin), generator=generator)
