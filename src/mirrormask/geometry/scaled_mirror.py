"""PILoT's mirror flow in the units of each layer: one option, no learning rate to find anew."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.geometry.base import Landing, Latents
from mirrormask.geometry.blocks import blocks
from mirrormask.geometry.mirror import (
    LARGEST_SHRINK,
    SMALL_GAIN,
    SMALLEST_SCALE,
    Mirror,
    shrink_a_little,
)

TYPICAL = 1.0
"""Stands for the root mean square of a tensor that starts at zero everywhere."""


@dataclass(frozen=True, kw_only=True)
class ScaledMirror(Mirror):
    """The mirror flow with a scale ``a = width * rms`` for each tensor, and time in its units.

    ``dx = -sqrt(1 + (x / a)²) g dt``: small weights move as the optimizer alone moves them, large
    ones faster, in proportion to their size. It is the flow of :class:`Mirror` with the learning
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
        >>> mirror = ScaledMirror(width=3.0).fitted(rms=0.1)
        >>> latents = mirror.split(torch.tensor([0.0, 0.3, -3.0]))
        >>> dual = mirror.moving(latents)
        >>> _ = dual["dual"].sub_(torch.full((3,), 0.01))  # a step of SGD: lr * g = 0.01
        >>> mirror.absorb(latents, dual, Landing())
        >>> mirror.compose(latents)
        tensor([-0.0100,  0.2860, -3.1022])
    """

    width: float = 3.0

    keeps_weight_decay: ClassVar[bool] = True
    separable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.width) and self.width > 0):
            raise ArgumentError(
                f"width={self.width} is not a scale: use a finite number > 0, such as 3.0."
            )
        if self.noise != "ignore":
            raise ArgumentError(f"noise={self.noise!r} is not known here: use Mirror.")

    def fitted(self, rms: float) -> ScaledMirror:
        """Return the geometry with the scale of a tensor of this root mean square."""
        return replace(self, a=max(SMALLEST_SCALE, self.width * (rms or TYPICAL)))

    def split(self, x: Tensor) -> Latents:
        """Return a copy of ``x``, the 0-d scale, and the 0-d unit of duals, which stays."""
        latents = super().split(x)
        return latents | {"unit": latents["a"].clone()}

    def resplit(self, latents: Latents, x: Tensor) -> Latents:
        """Return a copy of ``x``, the scale in force and its unit."""
        return super().resplit(latents, x) | {"unit": latents["unit"].clone()}

    def absorb(self, latents: Latents, moved: Latents, landing: Landing) -> None:
        """Move ``x`` by the increment of the dual and by the caller's decay, ``a`` by the budget.

        Weight decay is the gradient ``weight_decay * x``, as in SGD. It is taken at the rate that
        momentum has in the long run, and decoupled from what Adam makes of gradients.
        """
        dual = moved["dual"]
        if landing.decay > 0:
            dual = dual.sub(latents["x"], alpha=landing.decay)
        super().absorb(latents, {"dual": dual / (2.0 * latents["unit"])}, landing)

    def shrink(self, latents: Latents, amount: float) -> None:
        """Soft-threshold the dual ``unit * arcsinh(x / a)`` by ``amount``."""
        a = latents["a"]
        turn = torch.clamp(amount / latents["unit"], max=LARGEST_SHRINK)
        # Elsewhere than on the CPU to ask would be to wait.
        if turn.device.type == "cpu" and torch.equal(turn, turn.clamp(max=SMALL_GAIN)):
            shrink_a_little(latents["x"], a, torch.tanh(turn), torch.cosh(turn))
            return
        falls, sinh = torch.exp(-turn), torch.sinh(turn)
        for x in blocks(latents["x"]):
            size = x.abs()
            # As in Mirror: sqrt(x² + a²) - |x|, of which nothing cancels.
            rest = torch.hypot(x, a.expand_as(x)).add_(size).reciprocal_().mul_(a).mul_(a)
            moved = size.mul_(falls).sub_(rest.mul_(sinh))
            x.copy_(torch.copysign(moved.clamp_(min=0.0), x).add_(0.0))

    def distance(self, latents: Latents) -> Tensor:
        """Return the dual, ``unit * arcsinh(|x| / a)``: ``|x|`` where that is small."""
        return super().distance(latents).mul_(2.0 * latents["unit"])
