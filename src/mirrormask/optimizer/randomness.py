"""Random numbers of a run: a pure function of its seed and the step."""

from __future__ import annotations

import numpy as np
from torch import Generator


def generator_for(seed: int, step: int) -> Generator:
    """Return a generator on the CPU for one step, independent of those of all others.

    Args:
        seed: Of the run.
        step: Optimizer steps done, 0 for what happens before training.

    Example:
        >>> import torch
        >>> torch.equal(
        ...     torch.rand(2, generator=generator_for(7, 3)),
        ...     torch.rand(2, generator=generator_for(7, 3)),
        ... )
        True
    """
    words = np.random.SeedSequence((seed, step)).generate_state(2, np.uint32)
    return Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))
