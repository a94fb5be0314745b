"""Which weights stay: the largest magnitudes, exactly as many as asked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.masking.budget import Scope, zeros_asked, zeros_per_tensor
from mirrormask.ranks import is_sharded, keep_largest_in_shards, kth_smallest_in_shards


def keep_largest(magnitudes: Sequence[Tensor], zeros: int) -> list[Tensor]:
    """Return masks that drop exactly the ``zeros`` smallest magnitudes over all tensors.

    Equal magnitudes at the threshold are dropped in the order of the tensors and of their
    elements, so the choice is the same on every run and every rank. Threshold and counts stay on
    the device. NaN counts as larger than any number: it stays, for the caller to find. Sharded
    tensors (DTensor) give the masks that they would give whole, sharded alike.

    Args:
        magnitudes: Tensors of any shapes, compared across all of them.
        zeros: How many elements to drop, 0 to the total.

    Returns:
        One boolean mask a tensor, in its shape: True is kept.

    Raises:
        ArgumentError: If ``zeros`` is outside 0..total.

    Example:
        >>> keep_largest([torch.tensor([3.0, 1.0]), torch.tensor([1.0, 2.0])], zeros=2)
        [tensor([ True, False]), tensor([False,  True])]
    """
    total = sum(tensor.numel() for tensor in magnitudes)
    if not 0 <= zeros <= total:
        raise ArgumentError(f"zeros={zeros} is impossible among {total} weights.")
    if not magnitudes:
        return []
    if any(is_sharded(tensor) for tensor in magnitudes):
        return keep_largest_in_shards(magnitudes, zeros)
    home = magnitudes[0].device
    flat = torch.cat([tensor.detach().to(home).flatten() for tensor in magnitudes])
    keep = _keep_flat(flat, zeros)
    parts = torch.split(keep, [tensor.numel() for tensor in magnitudes])
    return [
        part.view(tensor.shape).to(tensor.device)
        for part, tensor in zip(parts, magnitudes, strict=True)
    ]


def keep_at(magnitudes: Sequence[Tensor], sparsity: float, scope: Scope) -> list[Tensor]:
    """Return masks of exactly this sparsity over all tensors, True where kept.

    Args:
        magnitudes: As in :func:`keep_largest`.
        sparsity: Fraction of zeros over all tensors, in [0, 1).
        scope: ``"global"`` lets all weights compete; ``"uniform"`` and ``"erk"`` only those of one
            tensor, for its share of the zeros.

    Example:
        >>> keep_at([torch.tensor([3.0, 1.0]), torch.tensor([4.0, 5.0])], 0.5, "uniform")
        [tensor([ True, False]), tensor([False,  True])]
    """
    if scope == "global":
        total = sum(tensor.numel() for tensor in magnitudes)
        return keep_largest(magnitudes, zeros_asked(sparsity, total))
    zeros = zeros_per_tensor([tensor.shape for tensor in magnitudes], sparsity, scope)
    return keep_largest_each(magnitudes, zeros)


def keep_largest_each(magnitudes: Sequence[Tensor], zeros: Sequence[int]) -> list[Tensor]:
    """Return masks that drop exactly so many of the smallest elements of each tensor.

    Args:
        magnitudes: As in :func:`keep_largest`.
        zeros: How many to drop of each.

    Example:
        >>> keep_largest_each([torch.tensor([3.0, 1.0]), torch.tensor([4.0, 5.0])], [0, 1])
        [tensor([True, True]), tensor([False,  True])]
    """
    if any(is_sharded(tensor) for tensor in magnitudes):
        return keep_largest_in_shards(magnitudes, zeros)  # all in the same rounds
    return [
        keep_largest([tensor], count)[0] for tensor, count in zip(magnitudes, zeros, strict=True)
    ]


def kth_smallest(tensors: Sequence[Tensor], k: int) -> Tensor:
    """Return the ``k``-th smallest element over all tensors, 0-d, on the device, without a sync.

    Args:
        tensors: At least one, plain or sharded.
        k: From 1 to the number of elements.

    Example:
        >>> kth_smallest([torch.tensor([3.0, 1.0]), torch.tensor([2.0])], 2)
        tensor(2.)
    """
    if any(is_sharded(tensor) for tensor in tensors):
        return kth_smallest_in_shards(tensors, k)
    return torch.cat([tensor.flatten() for tensor in tensors]).kthvalue(k).values


def _keep_flat(flat: Tensor, zeros: int) -> Tensor:
    if zeros == 0:
        return torch.ones_like(flat, dtype=torch.bool)
    threshold = flat.kthvalue(zeros).values
    below = flat < threshold
    tied = flat == threshold
    to_drop = zeros - below.sum()
    return ~(below | (tied & (tied.cumsum(0) <= to_drop)))
