"""Powerpropagation: the weight is a signed power of what is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.geometry.base import Geometry, Latents


@dataclass(frozen=True, kw_only=True)
class Power(Geometry):
    """``x = v * |v|^(p - 1)``: large weights learn fast, small ones stay near zero.

    The step of a weight scales with ``p² * |x|^(2 - 2/p)``, so none changes its sign in the flow
    and the sizes spread out, which magnitude pruning likes. Decay of strength ``alpha`` is the
    penalty ``alpha * |x|^(2/p)``.

    Source: Schwarz et al., "Powerpropagation" (NeurIPS 2021).

    Args:
        p: Exponent above 1; the paper's alpha, there between 2 and 5.

    Raises:
        ArgumentError: If ``p`` is not above 1.

    Example:
        >>> import torch
        >>> latents = Power(p=2.0).split(torch.tensor([4.0, -0.25]))
        >>> latents["v"]
        tensor([ 2.0000, -0.5000])
        >>> Power(p=2.0).pull_back(latents, torch.ones(2))["v"]
        tensor([4., 1.])
    """

    p: float = 2.0

    decays_through_base: ClassVar[bool] = True
    zero_is_fixed: ClassVar[bool] = True
    keeps_weight_decay: ClassVar[bool] = False
    separable: ClassVar[bool] = True
    reaches_zero: ClassVar[bool] = False  # from p = 2 on, zero is infinitely far away

    def __post_init__(self) -> None:
        if not (math.isfinite(self.p) and self.p > 1):
            raise ArgumentError(
                f"p={self.p} is no exponent that favours large weights: use a number above 1, "
                "such as 2.0."
            )

    def split(self, x: Tensor) -> Latents:
        """Return the signed root."""
        x = x.detach()
        return {"v": x.abs().pow_(1 / self.p).copysign_(x)}

    def compose(self, latents: Latents, out: Tensor | None = None) -> Tensor:
        """Return the signed power."""
        v = latents["v"]
        x = v.abs().pow_(self.p - 1).mul_(v)
        return x if out is None else out.copy_(x)

    def pull_back(self, latents: Latents, grad: Tensor) -> Latents:
        """Return ``grad * p * |v|^(p - 1)``."""
        return {"v": latents["v"].abs().pow_(self.p - 1).mul_(grad).mul_(self.p)}
