"""The plain weight: no latents but itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mirrormask.geometry.base import Geometry, Latents


@dataclass(frozen=True, kw_only=True)
class Euclidean(Geometry):
    """The weight moves as the base optimizer moves it.

    Example:
        >>> x = torch.tensor([0.5, -0.1])
        >>> latents = Euclidean().split(x)
        >>> Euclidean().shrink(latents, 0.2)  # the soft threshold
        >>> Euclidean().compose(latents)
        tensor([0.3000, 0.0000])
    """

    decays_through_base: ClassVar[bool] = True
    zero_is_fixed: ClassVar[bool] = False
    keeps_weight_decay: ClassVar[bool] = True
    separable: ClassVar[bool] = True

    def split(self, x: Tensor) -> Latents:
        """Return a copy of ``x``."""
        return {"x": x.detach().clone()}

    def compose(self, latents: Latents, out: Tensor | None = None) -> Tensor:
        """Return ``x`` itself."""
        return latents["x"] if out is None else out.copy_(latents["x"])

    def pull_back(self, latents: Latents, grad: Tensor) -> Latents:
        """Return the gradient unchanged."""
        return {"x": grad}

    def decay(self, latents: Latents, budget: float) -> None:
        """Multiply by ``1 - 2 * budget``: an L2 penalty, which never sparsifies by itself."""
        latents["x"].mul_(1.0 - 2.0 * budget)

    def shrink(self, latents: Latents, amount: float) -> None:
        """Soft-threshold at ``amount``: the proximal map of ``amount * |x|``."""
        x = latents["x"]
        x.sub_(x.clamp(min=-amount, max=amount))

    def distance(self, latents: Latents) -> Tensor:
        """Return ``|x|``."""
        return latents["x"].abs()

    def scale(self, latents: Latents) -> Tensor:
        """Return infinity: the Euclidean metric is the limit of a wide mirror."""
        return torch.full((), torch.inf, device=latents["x"].device)
