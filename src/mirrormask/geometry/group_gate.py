"""D-Gating: the weights of an output row or channel share scalar gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.geometry.base import Geometry, Landing, Latents
from mirrormask.geometry.depth import products_of_others

SMALLEST_GATE = 1e-9
"""Floor of |gate|: a gate at zero would hold its whole row there, whatever the mask says."""


@dataclass(frozen=True, kw_only=True)
class GroupGate(Geometry):
    """``x = v * g1 * ... * g(D-1)`` with ``v`` in the shape of ``x`` and gates ``[n, 1, ...]``.

    Decay of strength ``alpha`` is the penalty ``alpha * (|v|² + sum g²)``, whose least value at a
    given weight is ``D * alpha * sum |row|^(2/D)``: a group lasso of weight ``2 * alpha`` on the
    rows (output neurons, output channels) for two parts, and non-convex for more. Under the flow
    ``|v_row|² - g²`` decays as ``exp(-4*A)`` with ``A`` the integral of alpha.

    Source: Kolb et al., "Differentiable Sparsity via D-Gating" (2025); for two parts also Ziyin &
    Wang, spred (ICML 2023).

    Args:
        depth: Number of parts D, at least 2: ``v`` and D - 1 gates.

    Raises:
        ArgumentError: If ``depth`` is below 2.

    Example:
        >>> latents = GroupGate(depth=2).split(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        >>> latents["g1"]
        tensor([[2.2361],
                [1.0000]])
        >>> GroupGate(depth=2).compose(latents)
        tensor([[3.0000, 4.0000],
                [0.0000, 0.0000]])
    """

    depth: int = 2

    decays_through_base: ClassVar[bool] = True
    zero_is_fixed: ClassVar[bool] = False
    keeps_weight_decay: ClassVar[bool] = False
    reaches_zero: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.depth < 2:
            raise ArgumentError(f"depth={self.depth} leaves no gate: use at least 2.")

    def split(self, x: Tensor) -> Latents:
        """Return the balanced parts, ``|v_row| = g = |row|^(1/D)``; a row of zeros has gates 1.

        With a gate of 0 a row could never leave zero again.
        """
        x = x.detach()
        norm = x.reshape(len(x), -1).norm(dim=1).view(-1, *[1] * (x.ndim - 1))
        gate = torch.where(norm > 0, norm ** (1 / self.depth), 1.0)
        gates = {f"g{i}": gate.clone() for i in range(1, self.depth)}
        return {"v": x / gate ** (self.depth - 1)} | gates

    def resplit(self, latents: Latents, x: Tensor) -> Latents:
        """Return the gates in force, and ``v`` that composes with them to ``x``."""
        gates = {name: gate.clone() for name, gate in latents.items() if name != "v"}
        return {"v": x.detach() / _product(gates)} | gates

    def compose(self, latents: Latents, out: Tensor | None = None) -> Tensor:
        """Return ``v`` times the product of the gates."""
        gates = {name: gate for name, gate in latents.items() if name != "v"}
        # 0 times a negative gate is -0, which is no zero to a file format.
        product = (latents["v"] * _product(gates)).add_(0.0)
        return product if out is None else out.copy_(product)

    def pull_back(self, latents: Latents, grad: Tensor) -> Latents:
        """Return the gradient on ``v``, and on each gate summed over its row."""
        others = products_of_others(latents, grad)
        return {name: part.sum_to_size(latents[name].shape) for name, part in others.items()}

    def absorb(self, latents: Latents, moved: Latents, landing: Landing) -> None:
        """Keep the gates off zero; they have moved already."""
        for name, gate in latents.items():
            if name != "v":
                gate.copy_(torch.copysign(gate.abs().clamp_(min=SMALLEST_GATE), gate))


def _product(gates: Latents) -> Tensor:
    first, *rest = gates.values()
    for gate in rest:
        first = first * gate
    return first
