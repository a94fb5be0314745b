"""One number for all masks of a model, the same however they are sharded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mirrormask.ranks.box import Box, first_rank_of, is_sharded, local_part, sum_over
from mirrormask.ranks.shards import mesh_of

_BLOCK = 1 << 20
# The multipliers of splitmix64 (Steele, Lea & Flood, 2014) as signed numbers.
_GOLDEN, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


@torch.no_grad()
def checksum(masks: Sequence[Tensor]) -> Tensor:
    """Return a sum of hashes of the places of all true elements, 0-d int64, on the device.

    A sum does not depend on its order, so that ranks add up what they hold. Sharded masks are
    summed over their mesh.

    Args:
        masks: Boolean tensors, plain or sharded; their order counts.

    Example:
        >>> one, two = torch.tensor([True, False]), torch.tensor([False, True])
        >>> bool(checksum([one, two]) == checksum([two, one]))
        False
    """
    mesh = mesh_of(masks)
    home = local_part(masks[0]).device
    total = torch.zeros(1, dtype=torch.int64, device=home)
    before = 0
    for mask in masks:
        box = Box.of(mask) if is_sharded(mask) else None
        if mesh is None or (first_rank_of(mesh) if box is None else box.speaks):
            flat = local_part(mask).flatten()
            for begin in range(0, flat.numel(), _BLOCK):
                index = flat[begin : begin + _BLOCK].nonzero().flatten() + begin
                places = index if box is None else box.places_of(index)
                total += _mixed(places + before).sum().to(home)
        before += mask.numel()
    return total[0] if mesh is None else sum_over(mesh, total)[0]


def _mixed(number: Tensor) -> Tensor:
    """Return splitmix64 of each number; integers wrap around."""
    z = (number + 1) * _GOLDEN
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, places: int) -> Tensor:
    """Shift to the right as unsigned numbers are."""
    return (z >> places) & ((1 << (64 - places)) - 1)


SAME_SIZE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integers in which the bits of a number can be seen, by bytes of the number."""


@torch.no_grad()
def bits_sum(tensors: Sequence[Tensor]) -> int:
    """Return one number for the very bits of plain tensors and their places; asks the device.

    Example:
        >>> bits_sum([torch.tensor([1.0, 2.0])]) == bits_sum([torch.tensor([2.0, 1.0])])
        False
    """
    total = 0
    for number, tensor in enumerate(tensors):
        bits = tensor.detach().contiguous().view(SAME_SIZE[tensor.element_size()]).flatten()
        for begin in range(0, bits.numel(), _BLOCK):
            block = bits[begin : begin + _BLOCK].to(torch.int64)
            odd = torch.arange(begin, begin + len(block), device=block.device) * 2 + 1
            total += (2 * number + 1) * int((block * odd).sum())
    return total
