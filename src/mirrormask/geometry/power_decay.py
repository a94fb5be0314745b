"""pWD: weight decay for any power of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mirrormask.errors import ArgumentError
from mirrormask.geometry.base import Landing, Latents
from mirrormask.geometry.blocks import blocks
from mirrormask.geometry.euclidean import Euclidean


@dataclass(frozen=True, kw_only=True)
class PowerDecay(Euclidean):
    """The plain weight, divided by ``1 + lr * lambda * |x|^(p - 2)`` after each step.

    This is a stable step on the penalty ``lambda / p * |x|^p``, with ``lambda = 2 * alpha`` for a
    pressure of strength ``alpha``: an L1 penalty of weight ``2 * alpha`` at p = 1, decoupled
    weight decay ``2 * alpha`` at p = 2. As with all decay under a base with momentum, ``lr *
    alpha`` counts times its gain; under Adam-like bases it is the paper's step.

    Source: Outmezguine & Levi, "Decoupled weight decay for any p norm" (2024).

    Args:
        p: Power in (0, 2]; from 1 down, small weights are pulled to zero ever faster.

    Raises:
        ArgumentError: If ``p`` is outside (0, 2].

    Example:
        >>> import torch
        >>> latents = PowerDecay(p=1.0).split(torch.tensor([1.0, -0.1, 0.0]))
        >>> PowerDecay(p=1.0).decay(latents, 0.05)
        >>> latents["x"]
        tensor([ 0.9091, -0.0500,  0.0000])
    """

    p: float = 1.0

    decays_through_base: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.p <= 2:
            raise ArgumentError(f"p={self.p} is no power that decays: use a number in (0, 2].")

    def absorb(self, latents: Latents, moved: Latents, landing: Landing) -> None:
        """Decay by the budget of the step."""
        self.decay(latents, landing.budget)

    def decay(self, latents: Latents, budget: float) -> None:
        """Divide by ``1 + 2 * budget * |x|^(p - 2)``; zero stays zero."""
        if budget == 0:
            return
        for x in blocks(latents["x"]):
            # At zero the power is infinite, and 0 / infinity is the 0 that is wanted.
            x.div_(x.abs().pow_(self.p - 2.0).mul_(2.0 * budget).add_(1.0))
