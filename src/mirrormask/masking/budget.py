"""How many zeros each tensor gets: global, uniform or ERK, exact to one weight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from mirrormask.errors import ArgumentError

Scope = Literal["global", "uniform", "erk"]


def zeros_asked(sparsity: float, weights: int) -> int:
    """Return the number of zeros that ``sparsity`` means for so many weights.

    The nearest whole number, halves up, so that ``1 - 1/n`` of ``n`` weights keeps exactly one.

    Example:
        >>> zeros_asked(0.95, 1000), zeros_asked(1 - 1 / 7, 7), zeros_asked(1e-6, 10)
        (950, 6, 0)
    """
    return min(weights, math.floor(sparsity * weights + 0.5))


def zeros_per_tensor(
    shapes: Sequence[Sequence[int]], sparsity: float, scope: Literal["uniform", "erk"]
) -> list[int]:
    """Share the zeros out over tensors, so that their sum is exactly what was asked.

    ``"uniform"`` gives every tensor the same sparsity. ``"erk"`` (Erdős–Rényi kernel) makes the
    density of a tensor proportional to ``sum(shape) / prod(shape)``, and keeps tensors dense for
    which that would exceed 1. Fractions are settled by the largest remainder, ties by order.

    Source: Evci et al., "Rigging the Lottery" (ICML 2020), section 3; the ER form for linear
    layers: Mocanu et al. (2018).

    Args:
        shapes: One shape a tensor.
        sparsity: Fraction of zeros over all tensors, in [0, 1).
        scope: ``"uniform"`` or ``"erk"``.

    Returns:
        Zeros for each tensor.

    Raises:
        ArgumentError: If the scope is unknown.

    Example:
        >>> zeros_per_tensor([(300, 784), (10, 100)], 0.9, "uniform")
        [211680, 900]
        >>> zeros_per_tensor([(300, 784), (10, 100)], 0.9, "erk")
        [212580, 0]
    """
    sizes = [math.prod(shape) for shape in shapes]
    total_kept = sum(sizes) - zeros_asked(sparsity, sum(sizes))
    if scope == "uniform":
        shares = [float(size) for size in sizes]
    elif scope == "erk":
        shares = [float(sum(shape)) for shape in shapes]
    else:
        raise ArgumentError(f"scope={scope!r} is unknown: use 'global', 'uniform' or 'erk'.")
    kept = _apportion(total_kept, shares, sizes)
    return [size - keep for size, keep in zip(sizes, kept, strict=True)]


def _apportion(total: int, shares: list[float], caps: list[int]) -> list[int]:
    """Split ``total`` in proportion to ``shares``, none above its cap, summing exactly."""
    exact = [0.0] * len(shares)
    full: set[int] = set()
    while True:
        left = total - sum(caps[i] for i in full)
        free = [i for i in range(len(shares)) if i not in full]
        weight = sum(shares[i] for i in free)
        exact = [
            float(caps[i]) if i in full else left * shares[i] / weight for i in range(len(shares))
        ]
        over = {i for i in free if exact[i] > caps[i]}
        if not over:
            break
        full |= over
    kept = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(kept)), key=lambda i: kept[i] - exact[i])
    missing = total - sum(kept)
    for i in [i for i in by_remainder if kept[i] < caps[i]][:missing]:
        kept[i] += 1
    return kept
