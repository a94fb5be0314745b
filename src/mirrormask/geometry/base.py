"""What every geometry must say about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

Latents = dict[str, Tensor]
"""The tensors that stand for one weight, by name."""


class Geometry(ABC):
    """A way to represent a weight ``x`` by latents, and to move it through them.

    The loss only ever sees the plain weight ``x``. A step goes: :meth:`moving` names the tensors
    that the base optimizer moves, :meth:`pull_back` turns the gradient on ``x`` into gradients on
    those, the base optimizer steps them, :meth:`absorb` takes the move in, :meth:`compose` gives
    the new ``x``. Most geometries move their latents directly and inherit :meth:`moving` and
    :meth:`absorb`.

    Attributes:
        decays_through_base: Whether decay of strength ``alpha`` is weight decay ``2 * alpha`` of
            the moving tensors, so that the base optimizer may apply it in its own kernel.
        zero_is_fixed: Whether all-zero latents stay zero under any gradient, so that a cut
            weight needs no further masking.
        keeps_weight_decay: Whether the caller's own weight decay keeps its meaning; on factors
            it would be a second L1 penalty.
    """

    decays_through_base: ClassVar[bool]
    zero_is_fixed: ClassVar[bool]
    keeps_weight_decay: ClassVar[bool]

    @abstractmethod
    def split(self, x: Tensor) -> Latents:
        """Return latents that compose to ``x`` (new tensors, shape of ``x`` or 0-d)."""

    @abstractmethod
    def compose(self, latents: Latents, out: Tensor | None = None) -> Tensor:
        """Return the weight that the latents stand for, written to ``out`` if given."""

    @abstractmethod
    def pull_back(self, latents: Latents, grad: Tensor) -> Latents:
        """Return the gradients on the moving tensors, given the gradient on ``x``."""

    @abstractmethod
    def decay(self, latents: Latents, budget: float) -> None:
        """Shrink the latents in place by the decay that spends ``budget`` = lr * alpha."""

    @abstractmethod
    def shrink(self, latents: Latents, amount: float) -> None:
        """Take, in place, a proximal L1 step of ``amount`` = lr * lambda (exact zeros)."""

    @abstractmethod
    def distance(self, latents: Latents) -> Tensor:
        """Return the ``amount`` of :meth:`shrink` that would bring each weight to zero."""

    @abstractmethod
    def scale(self, latents: Latents) -> Tensor:
        """Return the 0-d scale ``a``: |x| << a moves as under L2, |x| >> a as under L1."""

    def moving(self, latents: Latents) -> Latents:
        """Return the tensors that the base optimizer moves."""
        return latents

    def absorb(self, latents: Latents, moved: Latents, budget: float) -> None:
        """Take in place what the base optimizer did to the moving tensors.

        Args:
            latents: The latents before the step, or already moved ones.
            moved: What :meth:`moving` returned, after the step.
            budget: The lr * alpha that a geometry which decays in its own way spends now; 0 for
                those whose decay went through the base optimizer or :meth:`decay`.
        """
