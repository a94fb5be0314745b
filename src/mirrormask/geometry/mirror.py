"""PILoT's geometry without a second copy of the weights: the mirror step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.geometry.base import Geometry, Landing, Latents
from mirrormask.geometry.blocks import blocks

Noise = Literal["ignore", "second-moment"]

LARGEST_RATE = math.tanh(4.0)
"""Bound on tanh(lr g) in one step: a weight grows or shrinks at most 3000-fold at once."""

SMALL_GAIN = 2.0**-6
"""Up to here the terms of a step beyond the third power are below the rounding of float32."""

SMALLEST_SCALE = 1e-30
"""Floor of the scale: below it float32 has no numbers left."""

LARGEST_SHRINK = 80.0
"""Bound on the move of the dual in one proximal step: sinh(80) times any scale fits float32."""


def mirror_step(x: Tensor, a: Tensor, z: Tensor, a_next: Tensor) -> Tensor:
    """Return ``a_next * sinh(arcsinh(x / a) - z)`` without forming either function.

    By the addition theorem this is ``x cosh(z) - sqrt(x² + a²) sinh(z)``, scaled; with
    ``T = tanh(z / 2)`` it becomes ``x + 2 T (x T - sqrt(x² + a²)) / (1 - T²)``, so nothing
    overflows for tiny ``a`` or large ``x``, and ``z = 0`` moves no bit of ``x``.

    Args:
        x: Weight, any shape, float32 or float64.
        a: Scale before the step, 0-d, positive.
        z: Dual move ``2 * lr * g``, shape of ``x``; cut off at ±8.
        a_next: Scale after the step, 0-d, positive.

    Returns:
        The weight after the step, shape of ``x``.

    Example:
        >>> x, a = torch.tensor([0.3, -2.0]), torch.tensor(0.5)
        >>> mirror_step(x, a, torch.zeros(2), a)
        tensor([ 0.3000, -2.0000])
    """
    return _turn_(x.clone(), a, z * -0.5, a_next)


def _turn_(x: Tensor, a: Tensor, gain: Tensor, a_next: Tensor) -> Tensor:
    """Take the step in place of ``x`` by the dual gain ``-z / 2``, which is used up."""
    if _is_small(gain):
        return _turn_a_little_(x, a, gain, a_next)
    rate = gain.tanh_().clamp_(-LARGEST_RATE, LARGEST_RATE)
    # The square of a smaller scale would underflow, and zero could never be left.
    wide = a.clamp(min=math.sqrt(torch.finfo(x.dtype).tiny))
    move = torch.addcmul(wide * wide, x, x).sqrt_()
    move.addcmul_(x, rate).mul_(rate)
    move.div_(torch.addcmul(rate.new_ones(()), rate, rate, value=-1.0))
    return x.add_(move, alpha=2.0).mul_(a_next / a)


def _is_small(gain: Tensor) -> bool:
    """Return whether the series will do; elsewhere than on the CPU to ask would be to wait."""
    if gain.device.type != "cpu" or gain.dtype != torch.float32 or not gain.numel():
        return False
    ends = torch.stack(torch.aminmax(gain))
    return torch.equal(ends, ends.clamp(-SMALL_GAIN, SMALL_GAIN))


def _turn_a_little_(x: Tensor, a: Tensor, gain: Tensor, a_next: Tensor) -> Tensor:
    """Take the same step by the first terms of ``x cosh(2u) + sqrt(x² + a²) sinh(2u)``.

    With ``sinh(2u) = 2u + 4u³/3`` and ``cosh(2u) - 1 = sinh(2u) u``, to the third power of ``u``.
    """
    wide = a.clamp(min=math.sqrt(torch.finfo(x.dtype).tiny))
    sinh = (gain * gain).mul_(4 / 3).add_(2.0).mul_(gain)
    root = torch.addcmul(wide * wide, x, x).sqrt_()
    return x.addcmul_(root.addcmul_(x, gain), sinh).mul_(a_next / a)


def _shrink_a_little_(weight: Tensor, a: Tensor, turn: float) -> None:
    """Soft-threshold the dual by a small amount, in place."""
    square = a.clamp(min=math.sqrt(torch.finfo(weight.dtype).tiny)).square()
    for x in blocks(weight):
        bound = torch.addcmul(square, x, x).sqrt_().mul_(math.tanh(turn))
        # A number less itself is +0: there is no -0, which is no zero to a file format.
        x.sub_(torch.clamp(x, -bound, bound)).mul_(math.cosh(turn))


@dataclass(frozen=True, kw_only=True)
class Mirror(Geometry):
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

    decays_through_base: ClassVar[bool] = False
    zero_is_fixed: ClassVar[bool] = False
    keeps_weight_decay: ClassVar[bool] = False
    separable: ClassVar[bool] = True

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

    def compose(self, latents: Latents, out: Tensor | None = None) -> Tensor:
        """Return ``x`` itself."""
        return latents["x"] if out is None else out.copy_(latents["x"])

    def moving(self, latents: Latents) -> Latents:
        """Return a new increment of the dual, zero."""
        return {"dual": torch.zeros_like(latents["x"])}

    def pull_back(self, latents: Latents, grad: Tensor) -> Latents:
        """Return the gradient unchanged: it is the gradient on the dual."""
        return {"dual": grad}

    def absorb(self, latents: Latents, moved: Latents, landing: Landing) -> None:
        """Move ``x`` by the increment of the dual and ``a`` by the budget."""
        x, a, dual = latents["x"], latents["a"], moved["dual"]
        factor = torch.full_like(a, math.exp(-4.0 * landing.budget))
        if self.noise == "second-moment":
            # exp(-u), not 1 - u: one wild gradient must not put the scale to 0 for good.
            factor = factor * torch.exp(-dual.square().mean())
        a_next = (a * factor).clamp_(min=SMALLEST_SCALE)
        for part, increment in zip(blocks(x), blocks(dual), strict=True):
            _turn_(part, a, increment, a_next)
        a.copy_(a_next)

    def decay(self, latents: Latents, budget: float) -> None:
        """Take the step of :meth:`absorb` with no gradient."""
        self.absorb(latents, self.moving(latents), Landing(budget=budget))

    def shrink(self, latents: Latents, amount: float) -> None:
        """Soft-threshold the dual ``arcsinh(x / a)`` by ``2 * amount``.

        This is ``|x| exp(-t) - (sqrt(x² + a²) - |x|) sinh(t)`` with ``t = 2 amount``, where that
        is positive; the bracket is taken as ``a² / (sqrt(x² + a²) + |x|)``. Where ``t`` is small
        nothing cancels in ``|x| cosh(t) - sqrt(x² + a²) sinh(t)``, which takes half the time.
        """
        turn = min(2.0 * amount, LARGEST_SHRINK)
        a = latents["a"]
        if turn <= SMALL_GAIN:
            _shrink_a_little_(latents["x"], a, turn)
            return
        for x in blocks(latents["x"]):
            magnitude = x.abs()
            rest = torch.hypot(x, a.to(x.dtype).expand_as(x)).add_(magnitude).reciprocal_()
            rest.mul_(a).mul_(a)  # a² alone may underflow
            moved = magnitude.mul_(math.exp(-turn)).sub_(rest, alpha=math.sinh(turn))
            # -0 is no zero to a file format, so it is turned into 0.
            x.copy_(torch.copysign(moved.clamp_(min=0.0), x).add_(0.0))

    def distance(self, latents: Latents) -> Tensor:
        """Return half the dual, ``arcsinh(|x| / a) / 2``."""
        x, a = latents["x"], latents["a"]
        magnitude = x.abs()
        # arcsinh(r) = log1p(r + r² / (1 + sqrt(1 + r²))), with r scaled so that nothing overflows.
        root = torch.hypot(magnitude, a.expand_as(magnitude))
        return torch.log1p((magnitude + magnitude * (magnitude / (a + root))) / a).mul_(0.5)

    def scale(self, latents: Latents) -> Tensor:
        """Return ``a``."""
        return latents["a"]
