"""STR: weights below a learned threshold are zero, one threshold for each tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from mirrormask.errors import ArgumentError
from mirrormask.geometry.base import Geometry, Latents


@dataclass(frozen=True, kw_only=True)
class SoftThreshold(Geometry):
    """``x = sign(v) * max(|v| - sigmoid(s), 0)`` with one trained number ``s`` a tensor.

    Decay of strength ``alpha`` is weight decay ``2 * alpha`` of ``v`` and of ``s``, as in the
    authors' release: it takes ``s`` up from its negative start, so the threshold rises until the
    gradients of the weights above it hold it, in each tensor where they do. A weight below the
    threshold gets no gradient; only a falling threshold brings it back.

    Source: Kusupati et al., "Soft Threshold Weight Reparameterization for Learnable Sparsity"
    (ICML 2020).

    Args:
        initial: The ``s`` of the start, negative; the lower, the longer nothing is cut.

    Raises:
        ArgumentError: If ``initial`` is not a finite negative number.

    Example:
        >>> str_ = SoftThreshold(initial=-2.0)
        >>> latents = {"v": torch.tensor([1.0, 0.1, 0.5]), "s": torch.tensor(-2.0)}
        >>> str_.compose(latents)
        tensor([0.8808, 0.0000, 0.3808])
        >>> str_.pull_back(latents, torch.ones(3))
        {'v': tensor([1., 0., 1.]), 's': tensor(-0.2100)}
    """

    initial: float = -5.0

    decays_through_base: ClassVar[bool] = True
    zero_is_fixed: ClassVar[bool] = True
    keeps_weight_decay: ClassVar[bool] = False
    reaches_zero: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.initial) and self.initial < 0):
            raise ArgumentError(
                f"initial={self.initial} would not rise under decay: use a finite negative "
                "number, such as -5.0."
            )

    def start(self, x: Tensor, generator: Generator) -> Latents:
        """Return ``x`` itself as ``v``: the first weight is ``x`` less the first threshold."""
        return {"v": x.detach().clone(), "s": self._first(x)}

    def split(self, x: Tensor) -> Latents:
        """Return the first threshold, and ``v`` that composes with it to ``x``."""
        s = self._first(x)
        return {"v": raised(x, torch.sigmoid(s)), "s": s}

    def resplit(self, latents: Latents, x: Tensor) -> Latents:
        """Return the threshold in force, and ``v`` that composes with it to ``x``."""
        s = latents["s"]
        return {"v": raised(x, torch.sigmoid(s)), "s": s.clone()}

    def compose(self, latents: Latents, out: Tensor | None = None) -> Tensor:
        """Return ``v`` less the threshold."""
        x = lowered(latents["v"], torch.sigmoid(latents["s"]))
        return x if out is None else out.copy_(x)

    def pull_back(self, latents: Latents, grad: Tensor) -> Latents:
        """Return the gradient where ``|v|`` is above the threshold, and that on ``s``."""
        v, threshold = latents["v"], torch.sigmoid(latents["s"])
        passed = torch.where(v.abs() > threshold, grad, 0.0)
        slope = threshold * (1.0 - threshold)
        return {"v": passed, "s": -slope * (passed * v.sign()).sum()}

    def _first(self, x: Tensor) -> Tensor:
        return torch.full((), self.initial, dtype=x.dtype, device=x.device)


def lowered(v: Tensor, threshold: Tensor) -> Tensor:
    """Return ``sign(v) * max(|v| - threshold, 0)``, without negative zeros.

    Example:
        >>> lowered(torch.tensor([-3.0, -0.5, 2.0]), torch.tensor(1.0))
        tensor([-2.,  0.,  1.])
    """
    # -0 is no zero to a file format, so it is turned into 0.
    return v.abs().sub_(threshold).clamp_(min=0.0).copysign_(v).add_(0.0)


def raised(x: Tensor, threshold: Tensor) -> Tensor:
    """Return ``sign(x) * (|x| + threshold)``, for which :func:`lowered` gives ``x`` again.

    A weight smaller than the spacing of numbers at the threshold comes back as that spacing: one
    that is not zero must not become so.

    Example:
        >>> raised(torch.tensor([-2.0, 0.0, 1.0]), torch.tensor(1.0))
        tensor([-3.,  0.,  2.])
    """
    x = x.detach()
    above = torch.nextafter(threshold, torch.full_like(threshold, torch.inf))
    return torch.maximum(x.abs().add_(threshold), above).mul_(x.sign()).add_(0.0)
