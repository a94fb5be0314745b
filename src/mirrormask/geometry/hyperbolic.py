"""HAM: a multiplicative step after that of any optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.geometry.base import Landing, Latents
from mirrormask.geometry.blocks import blocks
from mirrormask.geometry.euclidean import Euclidean

LARGEST_MOVE = 8.0
"""Bound on the exponent of one step: a weight grows or shrinks at most 3000-fold at once."""


@dataclass(frozen=True, kw_only=True)
class Hyperbolic(Euclidean):
    """The plain weight with ``x <- x * exp(-lr * (A * sign(x) * g + B))`` after each step.

    With plain gradient descent this is, to first order, descent in the metric ``1 + A * |x|``:
    large weights move as factors ``m * w`` do, and small ones as the optimizer alone moves them,
    so that none is ever stuck at zero. The factor is positive: it never turns a sign.

    The exponent should stay below 1 in nearly every step, so ``lr * A * |g|`` decides, with ``g``
    the gradient on one weight; beyond that weights run away, and a small network is lost. The
    paper's 200 belongs to large networks, whose gradients are small (0.1 * 200 * 1e-3). An MLP on
    small images stayed stable up to about ``lr * A = 2``: 200 at a rate of 0.01, 40 at 0.05.

    Source: Jacobs et al., "Hyperbolic Aware Minimization" (ICLR 2026).

    Args:
        A: Strength of the metric, positive; a weight of size 1 / A moves twice as fast.
        B: Rate of decay, at least 0; a weight decay that no momentum multiplies.

    Raises:
        ArgumentError: If an option is outside its domain.

    Example:
        >>> ham = Hyperbolic(A=10.0, B=0.0)
        >>> latents = ham.split(torch.tensor([1.0, -1.0, 0.0]))
        >>> ham.absorb(latents, latents, Landing(rate=0.1, grad=torch.ones(3)))
        >>> ham.compose(latents)
        tensor([ 0.3679, -2.7183,  0.0000])
    """

    A: float = 200.0
    B: float = 1e-3

    def __post_init__(self) -> None:
        if not (math.isfinite(self.A) and self.A > 0):
            raise ArgumentError(
                f"A={self.A} is no strength of a metric: use a finite number > 0, or the "
                "Euclidean geometry."
            )
        if not (math.isfinite(self.B) and self.B >= 0):
            raise ArgumentError(f"B={self.B} is no rate of decay: use a finite number >= 0.")

    def absorb(self, latents: Latents, moved: Latents, landing: Landing) -> None:
        """Multiply by the exponential; without a gradient only by that of ``B``."""
        x, decay = latents["x"], landing.rate * self.B
        if landing.grad is None:
            x.mul_(math.exp(-decay))
            return
        gain = x.sign().mul_(landing.grad).mul_(-landing.rate * self.A).sub_(decay)
        x.mul_(gain.clamp_(-LARGEST_MOVE, LARGEST_MOVE).exp_())

    def shrink(self, latents: Latents, amount: float) -> None:
        """Soft-threshold the dual ``log(1 + A |x|) / A`` of the metric by ``amount``."""
        turn = self.A * amount
        for x in blocks(latents["x"]):
            size = x.abs().mul_(math.exp(-turn)).add_(math.expm1(-turn) / self.A)
            # -0 is no zero to a file format, so it is turned into 0.
            x.copy_(torch.copysign(size.clamp_(min=0.0), x).add_(0.0))

    def distance(self, latents: Latents) -> Tensor:
        """Return the dual, ``log(1 + A |x|) / A``."""
        return latents["x"].abs().mul_(self.A).log1p_().div_(self.A)

    def scale(self, latents: Latents) -> Tensor:
        """Return ``1 / A``: below it the metric is flat, above it proportional to ``|x|``."""
        return torch.full((), 1.0 / self.A, device=latents["x"].device)
