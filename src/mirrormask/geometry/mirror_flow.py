"""What both forms of the mirror flow share: the weight itself, moved through its dual."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from mirrormask.geometry.base import Geometry, Landing, Latents
from mirrormask.geometry.mirror_step import SMALLEST_SCALE, turn_


class MirrorFlow(Geometry):
    """The weight ``x`` and its scale ``a``, stepped through an increment of the dual.

    The base optimizer moves an increment that starts at zero in every step, so momentum lives in
    the dual, and beyond that optimizer's own state nothing of weight size is kept between steps.
    """

    decays_through_base: ClassVar[bool] = False
    zero_is_fixed: ClassVar[bool] = False
    moves_increments: ClassVar[bool] = True

    def compose(self, latents: Latents, out: Tensor | None = None) -> Tensor:
        """Return ``x`` itself."""
        return latents["x"] if out is None else out.copy_(latents["x"])

    def moving(self, latents: Latents) -> Latents:
        """Return a new increment of the dual, zero."""
        return {"dual": torch.zeros_like(latents["x"])}

    def pull_back(self, latents: Latents, grad: Tensor) -> Latents:
        """Return the gradient unchanged: it is the gradient on the dual."""
        return {"dual": grad}

    def decay(self, latents: Latents, budget: float) -> None:
        """Take the step of ``absorb`` with no gradient."""
        self.absorb(latents, self.moving(latents), Landing(budget=budget))

    def scale(self, latents: Latents) -> Tensor:
        """Return ``a``."""
        return latents["a"]


def advance_(latents: Latents, gain: Tensor, factor: Tensor | float) -> None:
    """Move ``x`` by twice the gain of ``arcsinh(x / a)``, which is used up, and ``a`` by a factor.

    Args:
        latents: With ``"x"`` and ``"a"``, changed in place.
        gain: Half the increment of the dual, shape of ``x``.
        factor: By which the scale shrinks.
    """
    x, a = latents["x"], latents["a"]
    a_next = (a * factor).clamp_(min=SMALLEST_SCALE)
    turn_(x, a, gain, a_next)
    a.copy_(a_next)


def falling(budget: float) -> float:
    """Return the factor by which decay of this budget shrinks the scale."""
    return math.exp(-4.0 * budget)
