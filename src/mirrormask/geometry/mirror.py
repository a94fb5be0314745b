"""PILoT's geometry without a second copy of the weights: one scale for all layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.geometry.base import Landing, Latents
from mirrormask.geometry.mirror_flow import MirrorFlow, advance_, falling
from mirrormask.geometry.mirror_step import SMALLEST_SCALE, size_of_dual, soft_threshold_

Noise = Literal["ignore", "second-moment"]


@dataclass(frozen=True, kw_only=True)
class Mirror(MirrorFlow):
    """The mirror flow of ``x`` itself, with one scale ``a`` a tensor instead of two factors.

    A step is ``theta = arcsinh(x / a) - 2 lr g``, ``a <- a exp(-4 lr alpha)``,
    ``x = a sinh(theta)``. It agrees with :class:`Factors` to first order in the learning rate. The
    base optimizer moves an increment of the dual that starts at zero in every step, so momentum
    lives in the dual, and beyond that optimizer's own state nothing of weight size is kept.

    Source: method of Jacobs & Burkholz (ICLR 2025), discretised in the dual.

    Args:
        a: Scale at the start, positive; 0.5 is the scale of ``Factors(beta=1)``.
        noise: ``"ignore"``, or ``"second-moment"`` to shrink ``a`` as gradient noise shrinks the
            balance of the factors: by ``exp(-mean((lr g)²))`` in each step.

    Raises:
        ArgumentError: If ``a`` is not positive and finite, or ``noise`` is unknown.

    Example:
        >>> mirror = Mirror(a=0.5)
        >>> latents = mirror.split(torch.tensor([0.3, -2.0]))
        >>> dual = mirror.moving(latents)
        >>> _ = dual["dual"].sub_(0.1 * torch.tensor([1.0, 1.0]))  # a step of SGD
        >>> mirror.absorb(latents, dual, Landing(budget=0.01))
        >>> mirror.compose(latents)
        tensor([ 0.1812, -2.3589])
    """

    a: float = 0.5
    noise: Noise = "ignore"

    keeps_weight_decay: ClassVar[bool] = False

    @property
    def separable(self) -> bool:  # type: ignore[override]
        """Whether each weight moves by itself: not where noise is a mean over the tensor."""
        return self.noise == "ignore"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.a) and self.a >= SMALLEST_SCALE):
            raise ArgumentError(
                f"a={self.a} is not a scale: use a finite number >= {SMALLEST_SCALE}, such as 0.5."
            )
        if self.noise not in get_args(Noise):
            raise ArgumentError(f"noise={self.noise!r} is unknown: use one of {get_args(Noise)}.")

    def split(self, x: Tensor) -> Latents:
        """Return a copy of ``x`` and the 0-d scale."""
        x = x.detach().clone()
        return {"x": x, "a": torch.full((), self.a, dtype=x.dtype, device=x.device)}

    def resplit(self, latents: Latents, x: Tensor) -> Latents:
        """Return a copy of ``x`` and the scale in force."""
        return {"x": x.detach().clone(), "a": latents["a"].clone()}

    def absorb(self, latents: Latents, moved: Latents, landing: Landing) -> None:
        """Move ``x`` by the increment of the dual and ``a`` by the budget."""
        if landing.boost is not None:
            moved["dual"].mul_(landing.boost)
        factor = torch.full_like(latents["a"], falling(landing.budget))
        if self.noise == "second-moment":
            # exp(-u), not 1 - u: one wild gradient must not put the scale to 0 for good.
            factor = factor * torch.exp(-moved["dual"].square().mean())
        advance_(latents, moved["dual"], factor)

    def shrink(self, latents: Latents, amount: float) -> None:
        """Soft-threshold the dual ``arcsinh(x / a)`` by ``2 * amount``."""
        soft_threshold_(latents["x"], latents["a"], 2.0 * amount)

    def increment(self, latents: Latents, moved: Latents) -> Tensor:
        """Return ``2 a`` times the move of the dual."""
        return moved["dual"] * (2.0 * latents["a"])

    def distance(self, latents: Latents) -> Tensor:
        """Return half the dual, ``arcsinh(|x| / a) / 2``."""
        return size_of_dual(latents["x"], latents["a"]).mul_(0.5)
