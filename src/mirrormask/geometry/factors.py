"""PILoT's geometry: the weight is a product, x = m * w."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.geometry.base import Geometry, Latents
from mirrormask.geometry.blocks import blocks

LARGEST_AMOUNT = 40.0
"""Bound on lr * lambda in one proximal step: e^-40 of any weight is nothing."""


@dataclass(frozen=True, kw_only=True)
class Factors(Geometry):
    """Two factors with a balanced start: ``m0 * w0 = x`` and ``m0**2 - w0**2 = beta``.

    Under the flow ``dm = -(g*w + 2*alpha*m) dt``, ``dw = -(g*m + 2*alpha*w) dt`` the balance
    decays as ``m**2 - w**2 = beta * exp(-4*A)`` with ``A`` the integral of alpha, and ``x`` follows
    the mirror flow of the scale ``a = beta/2 * exp(-4*A)``. ``beta = 0`` is the start of spred,
    ``m = sqrt|x|``, ``w = sign(x) sqrt|x|``, from which no sign can flip.

    Source: Jacobs & Burkholz, "Mask in the Mirror" (ICLR 2025); spred: Ziyin & Wang (ICML 2023).

    Args:
        beta: Balance at the start, at least 0; 1 is the paper's choice.

    Raises:
        ArgumentError: If ``beta`` is negative or not finite.

    Example:
        >>> latents = Factors(beta=1.0).split(torch.tensor([0.0, 0.3, -2.0]))
        >>> latents["m"]
        tensor([1.0000, 1.0407, 1.6005])
        >>> Factors().compose(latents)
        tensor([ 0.0000,  0.3000, -2.0000])
    """

    beta: float = 1.0

    decays_through_base: ClassVar[bool] = True
    zero_is_fixed: ClassVar[bool] = True
    keeps_weight_decay: ClassVar[bool] = False
    separable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise ArgumentError(
                f"beta={self.beta} is not a balance: use a finite number >= 0, such as 1.0."
            )

    def split(self, x: Tensor) -> Latents:
        """Return ``m > 0`` and ``w`` with the balance ``beta``, to 4 units in the last place."""
        x = x.detach()
        # hypot keeps the root exact where 4x² would overflow or vanish.
        root = torch.hypot(2.0 * x, torch.full_like(x, self.beta))
        m = ((root + self.beta) * 0.5).sqrt_()
        w = x / m
        # beta = 0 and x = 0 give 0/0; the limit is the fixed point (0, 0).
        return {"m": m, "w": w if self.beta > 0 else torch.where(m == 0, m, w)}

    def compose(self, latents: Latents, out: Tensor | None = None) -> Tensor:
        """Return ``m * w``."""
        if out is None or out.dtype == latents["m"].dtype:
            return torch.mul(latents["m"], latents["w"], out=out)
        return out.copy_(latents["m"] * latents["w"])

    def pull_back(self, latents: Latents, grad: Tensor) -> Latents:
        """Return ``g * w`` for ``m`` and ``g * m`` for ``w``."""
        return {"m": grad * latents["w"], "w": grad * latents["m"]}

    def shrink(self, latents: Latents, amount: float) -> None:
        """Soft-threshold the dual by ``2 * amount`` at an unchanged balance.

        A hyperbolic rotation of ``(|m|, |w|)`` by ``amount``: the dual is ``2 artanh(w / m)`` and
        the balance is what such a rotation keeps. It ends where a factor meets zero.
        """
        turn = min(amount, LARGEST_AMOUNT)
        shrink, sinh = math.exp(-turn), math.sinh(turn)
        # A weight that stops early at zero turns by less than this; the difference to the larger
        # factor is a part of turn², which for small turns is below rounding.
        all_turn_alike = turn * turn < torch.finfo(latents["m"].dtype).eps
        for m, w in zip(blocks(latents["m"]), blocks(latents["w"]), strict=True):
            size_m, size_w = m.abs(), w.abs()
            high, low = torch.maximum(size_m, size_w), torch.minimum(size_m, size_w)
            gap = high - low
            # cosh * low - sinh * high, written so that little is lost where the factors agree.
            shrunk = (low * shrink).sub_(gap, alpha=sinh).clamp_(min=0.0)
            if all_turn_alike:
                grown = high.mul_(shrink).add_(gap, alpha=sinh)
            else:
                grown = torch.addcmul(gap * (high + low), shrunk, shrunk).sqrt_()
            m.copy_(torch.copysign(grown, m))
            w.copy_(torch.copysign(shrunk, w).add_(0.0))  # -0 is no zero to a file format

    def distance(self, latents: Latents) -> Tensor:
        """Return half the dual, ``artanh`` of the smaller factor over the larger."""
        m, w = latents["m"].abs(), latents["w"].abs()
        ratio = torch.minimum(m, w).div_(torch.maximum(m, w))
        return ratio.nan_to_num_(nan=0.0).atanh_()  # cut weights are 0 / 0

    def scale(self, latents: Latents) -> Tensor:
        """Return the median of ``|m**2 - w**2| / 2`` over the live coordinates.

        Gradient noise shrinks the balance of each coordinate by its own amount, so the scale is a
        spread; the median is its typical value.
        """
        m, w = latents["m"].detach(), latents["w"].detach()
        balance = ((m - w) * (m + w)).abs().mul(0.5).flatten()
        live = balance[(m != 0).flatten()]
        return live.median() if live.numel() else balance.new_zeros(())
