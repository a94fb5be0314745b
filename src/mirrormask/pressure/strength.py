"""Three names for the same strength: alpha, the budget A it spends, the scale a it ends at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mirrormask.errors import ArgumentError
from mirrormask.pressure.base import check_strength


@dataclass(frozen=True, kw_only=True)
class Strength:
    """A constant strength in a given run, seen in its three units.

    In a run with learning rates ``lr_t`` and momentum ``mu`` a constant ``alpha`` spends the
    budget ``A = alpha * sum(lr_t) / (1 - mu)`` and takes the scale from ``beta / 2`` to
    ``a = beta / 2 * exp(-4 * A)``.

    Source: Jacobs & Burkholz (ICLR 2025); momentum as in heavy-ball's effective step.

    Attributes:
        alpha: Strength in each step; an L1 penalty of weight ``2 * alpha``.
        budget: Integral A of alpha over the run.
        scale: Scale a at the end.

    Example:
        >>> rates = [0.1] * 1000
        >>> strength = Strength.from_scale(1e-3, rates, momentum=0.9)
        >>> f"{strength.budget:.3f} {strength.alpha:.5f}"
        '1.554 0.00155'
    """

    alpha: float
    budget: float
    scale: float

    @classmethod
    def from_alpha(
        cls,
        alpha: float,
        learning_rates: Sequence[float],
        *,
        momentum: float = 0.0,
        beta: float = 1.0,
    ) -> Strength:
        """Return the strength of this ``alpha``.

        Args:
            alpha: At least 0.
            learning_rates: One rate a step, at least one of them positive.
            momentum: Of the base optimizer, in [0, 1).
            beta: Balance at the start, positive.

        Raises:
            ArgumentError: If an argument is outside its domain.
        """
        check_strength("alpha", alpha)
        _check_balance(beta)
        budget = alpha * _time(learning_rates, momentum)
        return cls(alpha=alpha, budget=budget, scale=beta / 2 * math.exp(-4 * budget))

    @classmethod
    def from_budget(
        cls,
        budget: float,
        learning_rates: Sequence[float],
        *,
        momentum: float = 0.0,
        beta: float = 1.0,
    ) -> Strength:
        """Return the strength that spends this budget; arguments as :meth:`from_alpha`."""
        check_strength("budget", budget)
        _check_balance(beta)
        alpha = budget / _time(learning_rates, momentum)
        return cls(alpha=alpha, budget=budget, scale=beta / 2 * math.exp(-4 * budget))

    @classmethod
    def from_scale(
        cls,
        scale: float,
        learning_rates: Sequence[float],
        *,
        momentum: float = 0.0,
        beta: float = 1.0,
    ) -> Strength:
        """Return the strength that ends at this scale; arguments as :meth:`from_alpha`."""
        _check_balance(beta)
        if not 0 < scale <= beta / 2:
            raise ArgumentError(
                f"scale={scale} cannot be reached from beta={beta}: use a number in "
                f"(0, {beta / 2}]."
            )
        budget = math.log(beta / 2 / scale) / 4
        return cls.from_budget(budget, learning_rates, momentum=momentum, beta=beta)


def _check_balance(beta: float) -> None:
    if not (math.isfinite(beta) and beta > 0):
        raise ArgumentError(
            f"beta={beta} is not a balance with a scale: use a finite number > 0, such as 1.0."
        )


def _time(learning_rates: Sequence[float], momentum: float) -> float:
    if not 0 <= momentum < 1:
        raise ArgumentError(f"momentum={momentum} is outside [0, 1).")
    total = math.fsum(learning_rates)
    if not (math.isfinite(total) and total > 0):
        raise ArgumentError(f"The learning rates sum to {total}: give at least one positive rate.")
    return total / (1 - momentum)
