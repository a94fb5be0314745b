"""One step of the mirror flow, in place, at every size of numbers: move, soft-threshold, dual."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mirrormask.geometry import compiled_step
from mirrormask.geometry.blocks import blocks
from mirrormask.geometry.compiled_step import squared

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
    return turn_(x.clone(), a, z * -0.5, a_next)


def turn_(x: Tensor, a: Tensor, gain: Tensor, a_next: Tensor) -> Tensor:
    """Take the step in place of ``x`` by the dual gain ``-z / 2``, which is used up."""
    left = compiled_step.turn_small_(x, a, gain, a_next, bound=SMALL_GAIN)
    if left == []:
        return x
    for index, (part, increment) in enumerate(zip(blocks(x), blocks(gain), strict=True)):
        if left is None or index in left:
            _turn_block_(part, a, increment, a_next)
    return x


def _turn_block_(x: Tensor, a: Tensor, gain: Tensor, a_next: Tensor) -> Tensor:
    if _is_small(gain):
        return _turn_a_little_(x, a, gain, a_next)
    rate = gain.tanh_().clamp_(-LARGEST_RATE, LARGEST_RATE)
    move = torch.addcmul(squared(a), x, x).sqrt_()
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
    sinh = torch.addcmul(gain.new_full((), 2.0), gain, gain, value=4 / 3).mul_(gain)
    root = torch.addcmul(squared(a), x, x).sqrt_()
    return x.addcmul_(root.addcmul_(x, gain), sinh).mul_(a_next / a)


def soft_threshold_(weight: Tensor, a: Tensor, amount: float | Tensor) -> None:
    """Soft-threshold the dual ``arcsinh(x / a)``, in place of ``x``.

    This is ``|x| exp(-t) - (sqrt(x² + a²) - |x|) sinh(t)`` where that is positive; the bracket is
    taken as ``a² / (sqrt(x² + a²) + |x|)``. Where ``t`` is small nothing cancels in
    ``|x| cosh(t) - sqrt(x² + a²) sinh(t)``, which takes half the time.

    Args:
        weight: Any shape.
        a: Scale, 0-d, positive.
        amount: The ``t`` by which the dual is to fall; a tensor is 0-d, on the same device.
    """
    t = amount if isinstance(amount, Tensor) else torch.full_like(a, amount)
    t = t.clamp(max=LARGEST_SHRINK)
    if _is_small_amount(amount):
        if compiled_step.shrink_small_(weight, a, t):
            return
        for x in blocks(weight):
            bound = torch.addcmul(squared(a), x, x).sqrt_().mul_(torch.tanh(t))
            # A number less itself is +0: there is no -0, which is no zero to a file format.
            x.sub_(torch.clamp(x, -bound, bound)).mul_(torch.cosh(t))
        return
    falls, sinh = torch.exp(-t), torch.sinh(t)
    for x in blocks(weight):
        magnitude = x.abs()
        rest = torch.hypot(x, a.to(x.dtype).expand_as(x)).add_(magnitude).reciprocal_()
        rest.mul_(a).mul_(a)  # a² alone may underflow
        moved = magnitude.mul_(falls).sub_(rest.mul_(sinh))
        # -0 is no zero to a file format, so it is turned into 0.
        x.copy_(torch.copysign(moved.clamp_(min=0.0), x).add_(0.0))


def _is_small_amount(amount: float | Tensor) -> bool:
    if not isinstance(amount, Tensor):
        return amount <= SMALL_GAIN
    # Elsewhere than on the CPU to ask would be to wait.
    return amount.device.type == "cpu" and torch.equal(amount, amount.clamp(max=SMALL_GAIN))


def size_of_dual(x: Tensor, a: Tensor) -> Tensor:
    """Return ``arcsinh(|x| / a)``, shape of ``x``."""
    magnitude = x.abs()
    # arcsinh(r) = log1p(r + r² / (1 + sqrt(1 + r²))), with r scaled so that nothing overflows.
    root = torch.hypot(magnitude, a.expand_as(magnitude))
    return torch.log1p((magnitude + magnitude * (magnitude / (a + root))) / a)
