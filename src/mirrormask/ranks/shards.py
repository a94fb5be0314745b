"""Order and counts over tensors of which some are sharded, in place of the plain torch calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mirrormask.ranks.box import (
    Box,
    first_rank_of,
    is_sharded,
    local_part,
    speaks,
    sum_over,
)
from mirrormask.ranks.order import Part, keep_largest_of, kth_smallest_of

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def mesh_of(tensors: Sequence[Tensor]) -> DeviceMesh | None:
    """Return the mesh of the first sharded tensor, or None if there is none."""
    for tensor in tensors:
        if is_sharded(tensor):
            return tensor.device_mesh
    return None


@torch.no_grad()
def keep_largest_in_shards(tensors: Sequence[Tensor], zeros: int | Sequence[int]) -> list[Tensor]:
    """Return masks that drop exactly the ``zeros`` smallest numbers, sharded as the tensors are.

    Args:
        tensors: At least one of them sharded, all on one mesh; plain ones are the same on all
            ranks.
        zeros: How many over all tensors, or how many of each.
    """
    heap = [0] * len(tensors) if isinstance(zeros, int) else list(range(len(tensors)))
    mesh = mesh_of(tensors)
    assert mesh is not None
    boxes = [Box.of(t) if is_sharded(t) else None for t in tensors]
    parts = [
        Part(
            values=local_part(tensor),
            counts=first_rank_of(mesh) if box is None else box.speaks,
            size=tensor.numel(),
            places_of=_unmoved if box is None else box.places_of,
        )
        for tensor, box in zip(tensors, boxes, strict=True)
    ]
    counts = [zeros] if isinstance(zeros, int) else zeros
    kept = keep_largest_of(parts, heap, counts, partial(sum_over, mesh))
    return [keep if box is None else box.wrap(keep) for keep, box in zip(kept, boxes, strict=True)]


@torch.no_grad()
def kth_smallest_in_shards(tensors: Sequence[Tensor], k: int) -> Tensor:
    """Return the k-th smallest number, a plain 0-d tensor that is the same on all ranks.

    Args:
        tensors: At least one of them sharded, all on one mesh, in parts of any sizes.
        k: From 1 to the number of elements.
    """
    mesh = mesh_of(tensors)
    assert mesh is not None
    first = first_rank_of(mesh)
    parts = [
        Part(
            values=local_part(tensor),
            counts=speaks(tensor) if is_sharded(tensor) else first,
            size=tensor.numel(),
            places_of=_unmoved,
        )
        for tensor in tensors
    ]
    return kth_smallest_of(parts, k, partial(sum_over, mesh))


@torch.no_grad()
def sum_in_shards(tensors: Sequence[Tensor], of: Callable[[Tensor], Tensor]) -> Tensor:
    """Return a number for each tensor, added up over the ranks that hold a part of it: 1-d.

    Args:
        tensors: Plain ones are the same on all ranks.
        of: Takes a tensor and returns the 0-d number of the part of it that is here.
    """
    mesh = mesh_of(tensors)
    home = local_part(tensors[0]).device
    numbers = torch.stack([of(tensor).to(home) for tensor in tensors])
    if mesh is None:
        return numbers
    first = first_rank_of(mesh)
    own = [speaks(tensor) if is_sharded(tensor) else first for tensor in tensors]
    return sum_over(mesh, torch.where(torch.tensor(own, device=home), numbers, 0))


def count_true(tensors: Sequence[Tensor]) -> Tensor:
    """Return how many elements are true in each tensor, over all ranks: 1-d, int64.

    Args:
        tensors: Boolean; plain ones are the same on all ranks.

    Example:
        >>> count_true([torch.tensor([True, False]), torch.tensor([True, True])])
        tensor([1, 2])
    """
    return sum_in_shards(tensors, lambda tensor: local_part(tensor).sum())


def _unmoved(index: Tensor) -> Tensor:
    return index
