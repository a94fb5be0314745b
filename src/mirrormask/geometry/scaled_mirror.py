"""PILoT's mirror flow in the units of each layer: one option, no learning rate to find anew."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.geometry.base import Landing, Latents
from mirrormask.geometry.mirror_flow import MirrorFlow, advance_, falling
from mirrormask.geometry.mirror_step import SMALLEST_SCALE, size_of_dual, soft_threshold_

TYPICAL = 1.0
"""Stands for the root mean square of a tensor that starts at zero everywhere."""


@dataclass(frozen=True, kw_only=True)
class ScaledMirror(MirrorFlow):
    """The mirror flow with a scale ``a = width * rms`` for each tensor, and time in its units.

    ``dx = -sqrt(1 + (x / a)²) g dt``: small weights move as the optimizer alone moves them, large
    ones faster, in proportion to their size. It is the flow of :class:`.Mirror` with the learning
    rate divided by ``2 a``, so ``m * w`` factors of balance ``2 a`` with their rate so divided
    follow it too. Where all layers share one balance, the metric is flat for layers of small
    weights and wild for those of large ones; here it bends at the same multiple of a typical weight
    in each. The learning rate keeps the meaning that it has without this package.

    Duals are in the units of weights too: a proximal step takes ``amount`` off a small weight and
    more off a large one.

    Source: flow of Jacobs & Burkholz (ICLR 2025); the flat metric at zero is that of "Hyperbolic
    Aware Minimization" (Jacobs et al., ICLR 2026); that the scale is each layer's own is new.

    Args:
        width: Scale in units of the root mean square of the tensor at the start, positive.

    Raises:
        ArgumentError: If ``width`` is not positive and finite.

    Example:
        >>> mirror = ScaledMirror(width=3.0)
        >>> latents = mirror.split(torch.tensor([0.0, 0.1, -3.0, 0.0]))
        >>> dual = mirror.moving(latents)
        >>> _ = dual["dual"].sub_(torch.full((4,), 0.01))  # a step of SGD: lr * g = 0.01
        >>> mirror.absorb(latents, dual, Landing())
        >>> mirror.compose(latents)
        tensor([-0.0100,  0.0900, -3.0120, -0.0100])
    """

    width: float = 3.0

    keeps_weight_decay: ClassVar[bool] = True
    separable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.width) and self.width > 0):
            raise ArgumentError(
                f"width={self.width} is not a scale: use a finite number > 0, such as 3.0."
            )

    def split(self, x: Tensor) -> Latents:
        """Return a copy of ``x``, the 0-d scale, and the 0-d unit of duals, which stays."""
        x = x.detach().clone()
        latents = {"x": x, "a": x.new_empty(()), "unit": x.new_empty(())}
        self._scale_to(latents, x.square().mean().sqrt() if x.numel() else x.new_zeros(()))
        return latents

    def settle(self, latents: Latents, rms: Callable[[], Tensor]) -> None:
        """Take the scale from the root mean square of the whole weight."""
        self._scale_to(latents, rms())

    def resplit(self, latents: Latents, x: Tensor) -> Latents:
        """Return a copy of ``x``, the scale in force and its unit."""
        return {
            "x": x.detach().clone(),
            "a": latents["a"].clone(),
            "unit": latents["unit"].clone(),
        }

    def rebalanced(self, latents: Latents, x: Tensor) -> Latents:
        """Return a copy of ``x`` with the scale that the tensor had at the start."""
        return self.resplit(latents | {"a": latents["unit"]}, x)

    def absorb(self, latents: Latents, moved: Latents, landing: Landing) -> None:
        """Move ``x`` by the increment of the dual and by the caller's decay, ``a`` by the budget.

        Weight decay is the gradient ``weight_decay * x``, as in SGD. It is taken at the rate that
        momentum has in the long run, and decoupled from what Adam makes of gradients.
        """
        dual = moved["dual"]
        if landing.decay > 0:
            dual.sub_(latents["x"], alpha=landing.decay)
        gain = 2.0 * latents["unit"]
        if landing.boost is not None:
            gain = gain / landing.boost
        advance_(latents, dual.div_(gain), falling(landing.budget))

    def shrink(self, latents: Latents, amount: float) -> None:
        """Soft-threshold the dual ``unit * arcsinh(x / a)`` by ``amount``."""
        soft_threshold_(latents["x"], latents["a"], amount / latents["unit"])

    def distance(self, latents: Latents) -> Tensor:
        """Return the dual, ``unit * arcsinh(|x| / a)``: ``|x|`` where that is small."""
        return size_of_dual(latents["x"], latents["a"]).mul_(latents["unit"])

    def increment(self, latents: Latents, moved: Latents) -> Tensor:
        """Return the move of the dual, which has the units of weights."""
        return moved["dual"]

    def _scale_to(self, latents: Latents, rms: Tensor) -> None:
        scale = (torch.where(rms > 0, rms, TYPICAL) * self.width).clamp(min=SMALLEST_SCALE)
        for name in ("a", "unit"):
            latents[name].copy_(scale)
