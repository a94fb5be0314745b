"""Deep weight factorisation: the weight is a product of several factors of its own shape."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor

from mirrormask.errors import ArgumentError
from mirrormask.geometry.base import Geometry, Latents

Initial = Literal["drawn", "split"]

NEAR, FAR = 0.1, 2.0
"""A drawn product lies between these multiples of the weights' size, before it is rescaled."""

NEWTON_STEPS = 8
"""Enough from the bound where they start, for any balance and 16 digits."""


@dataclass(frozen=True, kw_only=True)
class Depth(Geometry):
    """``x = f1 * f2 * ... * fD``; decay of all factors prefers few large weights.

    Decay of strength ``alpha`` is the penalty ``alpha * sum |f_i|²``, whose least value at a given
    weight is ``D * alpha * |x|^(2/D)``: an L1 penalty of weight ``2 * alpha`` for two factors, and
    non-convex for more. Under the flow ``f_i² - f_j²`` decays as ``exp(-4*A)`` with ``A`` the
    integral of alpha. Two factors that are split move exactly as :class:`Factors` do.

    Source: Kolb et al., "Deep Weight Factorization" (ICLR 2025).

    Args:
        factors: Their number D, at least 2; the paper prefers 3 and 4 at extreme sparsity.
        beta: Balance of a split weight, at least 0: D - 1 equal factors ``u > 0`` and one ``w``
            with the sign of ``x``, ``u**2 - w**2 = beta``. At 0 a weight that is zero stays zero.
        initial: ``"drawn"`` starts from random factors as the paper does, see :meth:`start`;
            ``"split"`` from the weights that the model came with.

    Raises:
        ArgumentError: If an option is outside its domain.

    Example:
        >>> latents = Depth(factors=3, beta=0.0).split(torch.tensor([-8.0, 1.0]))
        >>> latents["f1"], latents["f3"]
        (tensor([2., 1.]), tensor([-2.,  1.]))
        >>> Depth().compose(latents)
        tensor([-8.,  1.])
    """

    factors: int = 3
    beta: float = 1.0
    initial: Initial = "drawn"

    decays_through_base: ClassVar[bool] = True
    zero_is_fixed: ClassVar[bool] = True
    keeps_weight_decay: ClassVar[bool] = False
    reaches_zero: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.factors < 2:
            raise ArgumentError(f"factors={self.factors} make no product: use at least 2.")
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise ArgumentError(
                f"beta={self.beta} is not a balance: use a finite number >= 0, such as 1.0."
            )
        if self.initial not in get_args(Initial):
            raise ArgumentError(
                f"initial={self.initial!r} is unknown: use one of {get_args(Initial)}."
            )

    def start(self, x: Tensor, generator: Generator) -> Latents:
        """Return random factors whose product has the size of ``x``, or ``x`` split.

        With ``s`` the root mean square of ``x``, each factor is drawn from a normal distribution
        of deviation ``s^(1/D)`` under the condition that its size is between ``(0.1 s)^(1/D)`` and
        ``(2 s)^(1/D)``: an independent start without the tiny products that never train and the
        outliers that make training unstable. All are then scaled by the one number that makes the
        mean square of the product ``s²`` again, which the condition has changed. A weight of
        zeros has no size and is split.
        """
        x = x.detach()
        size = x.square().mean().sqrt()
        if self.initial == "split" or not size > 0:
            return self.split(x)
        near, far = NEAR ** (1 / self.factors), FAR ** (1 / self.factors)
        low, high = math.erf(near / math.sqrt(2)), math.erf(far / math.sqrt(2))
        spread = math.sqrt(_square_between(near, far))
        drawn = {}
        for name in self._names():
            chance = torch.rand((2, *x.shape), generator=generator, dtype=x.dtype).to(x.device)
            normal = torch.erfinv(low + (high - low) * chance[0]) * math.sqrt(2)
            signed = torch.where(chance[1] < 0.5, -normal, normal)
            drawn[name] = signed * (size ** (1 / self.factors) / spread)
        return drawn

    def split(self, x: Tensor) -> Latents:
        """Return D - 1 equal positive factors and one with the sign of ``x``."""
        x = x.detach()
        size, others = x.abs(), self.factors - 1
        # Both bounds are above |w|, where |w| (w² + beta)^((D-1)/2) = |x| is convex and Newton's
        # steps only fall.
        w = size ** (1 / self.factors)
        if self.beta > 0:
            w = torch.minimum(w, size / self.beta ** (others / 2))
            for _ in range(NEWTON_STEPS):
                square = w * w
                sum_ = square + self.beta
                w = (others * square * w + size * sum_ ** (1 - others / 2)) / (
                    self.factors * square + self.beta
                )
        u = torch.hypot(w, torch.full_like(w, math.sqrt(self.beta)))
        names = self._names()
        last = x / u**others
        # beta = 0 and x = 0 give 0/0; the limit is the fixed point of zeros.
        last = last if self.beta > 0 else torch.where(u == 0, u, last)
        return {name: u.clone() for name in names[:-1]} | {names[-1]: last}

    def compose(self, latents: Latents, out: Tensor | None = None) -> Tensor:
        """Return the product of the factors."""
        factors = list(latents.values())
        product = factors[0] * factors[1]
        for factor in factors[2:]:
            product.mul_(factor)
        return product if out is None else out.copy_(product)

    def pull_back(self, latents: Latents, grad: Tensor) -> Latents:
        """Return for each factor ``grad`` times the product of the others."""
        return products_of_others(latents, grad)

    def _names(self) -> list[str]:
        return [f"f{i + 1}" for i in range(self.factors)]


def products_of_others(latents: Latents, grad: Tensor) -> Latents:
    """Return ``grad`` times the product of all other latents, for each, without a division.

    Args:
        latents: Two or more tensors that broadcast to the shape of ``grad``.
        grad: Gradient on their product.

    Example:
        >>> two, three, five = torch.tensor([2.0]), torch.tensor([3.0]), torch.tensor([5.0])
        >>> products_of_others({"a": two, "b": three, "c": five}, torch.ones(1))
        {'a': tensor([15.]), 'b': tensor([10.]), 'c': tensor([6.])}
    """
    names = list(latents)
    before = {names[0]: grad}
    for name, following in itertools.pairwise(names):
        before[following] = before[name] * latents[name]
    pulled = {names[-1]: before[names[-1]]}
    after = latents[names[-1]]
    for name in names[-2::-1]:
        pulled[name] = before[name] * after
        after = after * latents[name]
    return {name: pulled[name] for name in names}


def _square_between(low: float, high: float) -> float:
    """Return the mean square of a standard normal whose size is between two bounds."""
    density_low, density_high = math.exp(-(low**2) / 2), math.exp(-(high**2) / 2)
    mass = math.sqrt(math.pi / 2) * (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2)))
    return 1.0 + (low * density_low - high * density_high) / mass
