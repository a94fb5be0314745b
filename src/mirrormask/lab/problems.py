"""Under-determined regression problems with a known sparse answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mirrormask.errors import ArgumentError
from mirrormask.lab.schedules import Array


@dataclass(frozen=True)
class Problems:
    """A stack of regression problems ``Z x = Y``, one a seed.

    Attributes:
        z: Measurements, shape (seeds, samples, features).
        y: Targets, shape (seeds, samples).
        truth: The sparse weights that made the targets, shape (seeds, features).
        x0: Weights at the start, shape (seeds, features).
    """

    z: Array
    y: Array
    truth: Array
    x0: Array

    @property
    def seeds(self) -> int:
        """Return the number of problems."""
        return len(self.z)


def sparse_problems(
    *,
    seeds: int = 5,
    samples: int = 40,
    features: int = 100,
    nonzeros: int = 5,
    start_size: float = 0.1,
    first_seed: int = 0,
) -> Problems:
    """Draw problems as the paper does: Gaussian measurements, few nonzeros of size about one.

    The nonzeros are ``sign * (1 + |N(0, 1)|) / 2``, so none is lost near zero; the paper does not
    print its own law.

    Args:
        seeds: Number of problems; seed ``k`` is the same whatever their number.
        samples: Measurements per problem (the paper's d = 40).
        features: Weights per problem (the paper's n = 100).
        nonzeros: Nonzeros of the truth (the paper's 5).
        start_size: Standard deviation of the weights at the start.
        first_seed: Seed of the first problem.

    Returns:
        The problems.

    Raises:
        ArgumentError: If a count is not positive, or there are more nonzeros than features.

    Example:
        >>> problems = sparse_problems(seeds=2, samples=4, features=9, nonzeros=2)
        >>> problems.z.shape, int((problems.truth != 0).sum())
        ((2, 4, 9), 4)
    """
    if min(seeds, samples, features, nonzeros) < 1 or nonzeros > features:
        raise ArgumentError(
            f"seeds={seeds}, samples={samples}, features={features}, nonzeros={nonzeros} make no "
            "problem: use positive counts and at most as many nonzeros as features."
        )
    parts = []
    for seed in range(first_seed, first_seed + seeds):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=(samples, features))
        truth = np.zeros(features)
        places = rng.choice(features, nonzeros, replace=False)
        signs = rng.choice([-1.0, 1.0], nonzeros)
        truth[places] = signs * (1.0 + np.abs(rng.normal(size=nonzeros))) / 2.0
        parts.append((z, z @ truth, truth, start_size * rng.normal(size=features)))
    z, y, truth, x0 = (np.stack(part) for part in zip(*parts, strict=True))
    return Problems(z, y, truth, x0)
