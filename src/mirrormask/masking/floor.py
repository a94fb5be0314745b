"""No layer is cut off: a few weights of every tensor are safe from all others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mirrormask.masking.budget import zeros_asked
from mirrormask.masking.exact import keep_largest_each


def protect(scores: Sequence[Tensor], sparsity: float, floor: float) -> list[Tensor]:
    """Return the scores with the best few of each tensor at infinity.

    A global budget may leave a small layer without any weight, and with it the network without
    any path. So many of each tensor are safe that its density is ``floor`` times the overall one,
    and at least one. Where the budget is smaller than that, nothing is safe.

    Args:
        scores: One tensor of any shape each.
        sparsity: Fraction of zeros over all of them, in [0, 1).
        floor: Part of the overall density that no tensor falls below, in [0, 1]; 0 for no floor.

    Example:
        >>> protect([torch.tensor([9.0, 8.0, 7.0]), torch.tensor([1.0, 2.0])], 0.6, floor=0.1)
        [tensor([inf, 8., 7.]), tensor([1., inf])]
    """
    sizes = [score.numel() for score in scores]
    kept = sum(sizes) - zeros_asked(sparsity, sum(sizes))
    safe = [max(1, math.floor(floor * kept * size / sum(sizes))) if size else 0 for size in sizes]
    if floor == 0 or sum(safe) > kept:
        return list(scores)
    others = [size - count for size, count in zip(sizes, safe, strict=True)]
    best = keep_largest_each(scores, others)
    return [torch.where(keep, torch.inf, score) for keep, score in zip(best, scores, strict=True)]
