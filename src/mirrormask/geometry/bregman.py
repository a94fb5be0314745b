"""LinBreg: the weight is the thresholded sum of all steps, and starts nearly empty."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from mirrormask.errors import ArgumentError
from mirrormask.geometry.base import Geometry, Landing, Latents
from mirrormask.geometry.soft_threshold import lowered, raised


@dataclass(frozen=True, kw_only=True)
class Bregman(Geometry):
    """``x = delta * sign(v) * max(|v| - level, 0)``; the base optimizer moves ``v`` by ``g(x)``.

    The gradient on ``x`` is taken for one on ``v`` (mirror descent in ``level * |x| + x² / (2 *
    delta)``): all weights gather gradients, and one comes to life when its sum has passed the
    level. With plain descent these are linearised Bregman iterations, with momentum or Adam as
    base their variants. ``level`` is an L1 penalty's weight, ``2 * alpha`` of the pressure in
    each step; nothing decays, and without a pressure the level falls to 0.

    Source: Bungert et al., "A Bregman Learning Framework for Sparse Neural Networks" (JMLR 2022).

    Args:
        level: The level of the start, at least 0; twice the first strength of the pressure.
        delta: Scale of ``x``, positive: a learning rate of ``x`` is ``delta`` times that of ``v``.
        density: Part of the weights that the run starts with, in (0, 1].

    Raises:
        ArgumentError: If an option is outside its domain.

    Example:
        >>> bregman = Bregman(level=1.0, density=0.5)
        >>> latents = bregman.split(torch.tensor([2.0, 0.0, -1.0]))
        >>> latents["v"]
        tensor([ 3.,  0., -2.])
        >>> bregman.absorb(latents, {"v": latents["v"]}, Landing(alpha=1.25))
        >>> bregman.compose(latents)
        tensor([0.5000, 0.0000, 0.0000])
    """

    level: float
    delta: float = 1.0
    density: float = 0.1

    decays_through_base: ClassVar[bool] = False
    zero_is_fixed: ClassVar[bool] = False
    keeps_weight_decay: ClassVar[bool] = False
    reaches_zero: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.level) and self.level >= 0):
            raise ArgumentError(f"level={self.level} is no threshold: use a finite number >= 0.")
        if not (math.isfinite(self.delta) and self.delta > 0):
            raise ArgumentError(f"delta={self.delta} is no scale: use a finite number > 0.")
        if not 0 < self.density <= 1:
            raise ArgumentError(
                f"density={self.density} is no part of the weights: use a number in (0, 1]."
            )

    def start(self, x: Tensor, generator: Generator) -> Latents:
        """Return latents of ``x`` with each weight kept by the chance ``density``.

        What is kept is divided by ``sqrt(density)``, so that the variance is that of ``x``.
        """
        chance = torch.rand(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        kept = torch.where(chance < self.density, x.detach(), 0.0)
        return self.split(kept / math.sqrt(self.density))

    def split(self, x: Tensor) -> Latents:
        """Return the first level, and ``v`` that composes with it to ``x``."""
        level = torch.full((), self.level, dtype=x.dtype, device=x.device)
        return {"v": self._above(x, level), "level": level}

    def resplit(self, latents: Latents, x: Tensor) -> Latents:
        """Return the level in force, and ``v`` that composes with it to ``x``."""
        level = latents["level"]
        return {"v": self._above(x, level), "level": level.clone()}

    def compose(self, latents: Latents, out: Tensor | None = None) -> Tensor:
        """Return what of ``v`` is above the level, times ``delta``."""
        x = lowered(latents["v"], latents["level"]).mul_(self.delta)
        return x if out is None else out.copy_(x)

    def pull_back(self, latents: Latents, grad: Tensor) -> Latents:
        """Return the gradient on ``x`` as it is: a mirror step, not the chain rule."""
        return {"v": grad}

    def moving(self, latents: Latents) -> Latents:
        """Return ``v``."""
        return {"v": latents["v"]}

    def absorb(self, latents: Latents, moved: Latents, landing: Landing) -> None:
        """Take over the level of the step; the base optimizer has moved ``v`` already."""
        latents["level"].fill_(2.0 * landing.alpha)

    def _above(self, x: Tensor, level: Tensor) -> Tensor:
        return raised(x / self.delta, level)
