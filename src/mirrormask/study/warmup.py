"""The learning-rate schedule of all studies."""

from __future__ import annotations

import math


def warmup_cosine(step: int, steps: int, warmup: float = 0.1) -> float:
    """Return the factor on the learning rate: a linear rise, then half a cosine down to 0.

    Example:
        >>> [round(warmup_cosine(step, 10), 3) for step in (0, 1, 5, 9)]
        [1.0, 1.0, 0.587, 0.03]
    """
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
