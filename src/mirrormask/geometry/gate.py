"""Continuous Sparsification: each weight has a gate that training opens or shuts for good."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.geometry.base import Geometry, Landing, Latents


@dataclass(frozen=True, kw_only=True)
class Gate(Geometry):
    """``x = v * sigmoid(t * s)`` with a trained gate for each weight and a temperature ``t``.

    ``t`` rises as ``final ** done`` over the run, so the gates go from half open to a step
    function of ``s``. Decay of strength ``alpha`` is the L1 penalty ``2 * alpha * sum sigmoid(t *
    s)`` on the gates, and leaves ``v`` alone. Its step is taken beside the base optimizer; with
    momentum it counts times the gain, as all decay does.

    Source: Savarese, Silva & Maire, "Winning the Lottery with Continuous Sparsification"
    (NeurIPS 2020).

    Args:
        initial: The ``s`` of the start; the lower, the more gates shut.
        final: Temperature at the end, above 1.

    Raises:
        ArgumentError: If an option is outside its domain.

    Example:
        >>> gate = Gate(initial=0.0)
        >>> latents = gate.split(torch.tensor([1.0, -2.0]))
        >>> latents["v"], gate.compose(latents)
        (tensor([ 2., -4.]), tensor([ 1., -2.]))
        >>> gate.anneal(latents, 1.0)
        >>> latents["t"]
        tensor(200.)
    """

    initial: float = 0.0
    final: float = 200.0

    decays_through_base: ClassVar[bool] = False
    zero_is_fixed: ClassVar[bool] = False
    keeps_weight_decay: ClassVar[bool] = False
    separable: ClassVar[bool] = True
    reaches_zero: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.initial):
            raise ArgumentError(
                f"initial={self.initial} is no state of a gate: use a finite number, such as 0.0."
            )
        if not (math.isfinite(self.final) and self.final > 1):
            raise ArgumentError(
                f"final={self.final} is no rising temperature: use a finite number above 1, such "
                "as 200.0."
            )

    def split(self, x: Tensor) -> Latents:
        """Return gates at their start, at temperature 1, and ``v`` that composes to ``x``."""
        x = x.detach()
        s = torch.full_like(x, self.initial)
        t = torch.ones((), dtype=x.dtype, device=x.device)
        return {"v": x / torch.sigmoid(s), "s": s, "t": t}

    def resplit(self, latents: Latents, x: Tensor) -> Latents:
        """Return gates at least half open at the temperature in force, and ``v`` for ``x``.

        Behind a gate that is nearly shut ``v`` would be huge, or infinite.
        """
        s = latents["s"].clamp(min=0.0)
        v = x.detach() / torch.sigmoid(latents["t"] * s)
        return {"v": v, "s": s, "t": latents["t"].clone()}

    def compose(self, latents: Latents, out: Tensor | None = None) -> Tensor:
        """Return ``v`` behind its gate."""
        # A negative number that underflows is -0, which is no zero to a file format.
        x = torch.sigmoid(latents["t"] * latents["s"]).mul_(latents["v"]).add_(0.0)
        return x if out is None else out.copy_(x)

    def pull_back(self, latents: Latents, grad: Tensor) -> Latents:
        """Return the gradients on ``v`` and on ``s``."""
        gate = torch.sigmoid(latents["t"] * latents["s"])
        return {
            "v": grad * gate,
            "s": grad * latents["v"] * self._slope(latents, gate),
        }

    def moving(self, latents: Latents) -> Latents:
        """Return all but the temperature."""
        return {"v": latents["v"], "s": latents["s"]}

    def absorb(self, latents: Latents, moved: Latents, landing: Landing) -> None:
        """Shut the gates by the budget of the step; the base optimizer has moved them already."""
        self.decay(latents, landing.budget)

    def decay(self, latents: Latents, budget: float) -> None:
        """Take a gradient step of ``budget`` on ``2 * sum sigmoid(t * s)``."""
        if budget == 0:
            return
        gate = torch.sigmoid(latents["t"] * latents["s"])
        latents["s"].sub_(self._slope(latents, gate).mul_(2.0 * budget))

    def anneal(self, latents: Latents, done: float) -> None:
        """Set the temperature to ``final ** done``."""
        latents["t"].fill_(self.final**done)

    def _slope(self, latents: Latents, gate: Tensor) -> Tensor:
        """Return the derivative of the gate with respect to ``s``."""
        return gate * (1.0 - gate) * latents["t"]
