"""What every geometry must say about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

Latents = dict[str, Tensor]
"""The tensors that stand for one weight, by name.

Each has the shape of the weight, a shape that broadcasts to it with as many dimensions, or none.
"""


@dataclass(frozen=True, kw_only=True)
class Landing:
    """What a geometry may want to know when it takes in a step of the base optimizer.

    Attributes:
        rate: Learning rate of the step.
        alpha: Strength of the pressure in the step.
        budget: The lr * alpha * momentum gain that a geometry which decays in its own way spends
            now; 0 for those whose decay went through the base optimizer or ``decay``.
        grad: Gradient on the weight, in its shape, zero where it is cut; None if nobody has it.
        decay: The lr * weight decay * momentum gain of the caller's own optimizer, for geometries
            that keep its meaning but move something else than the weight.
        boost: Factor on the learning rate of this weight, 0-d, decay included; None for 1. Only
            geometries that move increments are given one.
    """

    rate: float = 0.0
    alpha: float = 0.0
    budget: float = 0.0
    grad: Tensor | None = None
    decay: float = 0.0
    boost: Tensor | None = None


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
        reaches_zero: Whether there is a proximal L1 step: :meth:`shrink` and :meth:`distance`.
        separable: Whether each weight moves by itself: its latents have its shape and depend on
            its own value and gradient alone, also at the start, and 0-d ones on none. Only such
            weights may be sharded over ranks.
        moves_increments: Whether what the base optimizer moves is zero before each step, so that a
            base that reads the size or the past of its tensors finds nothing there.
    """

    decays_through_base: ClassVar[bool]
    zero_is_fixed: ClassVar[bool]
    keeps_weight_decay: ClassVar[bool]
    reaches_zero: ClassVar[bool] = True
    separable: ClassVar[bool] = False
    moves_increments: ClassVar[bool] = False

    @abstractmethod
    def split(self, x: Tensor) -> Latents:
        """Return new latents that compose to ``x``."""

    def start(self, x: Tensor, generator: Generator) -> Latents:
        """Return the latents of the first step; methods with a start of their own change ``x``.

        Args:
            x: The weight that the model came with.
            generator: The only source of randomness, on the CPU.
        """
        return self.split(x)

    def settle(self, latents: Latents, rms: Callable[[], Tensor]) -> None:
        """Take in, in place, what latents of a part of a weight should know of the whole.

        Called once at the start where a weight is sharded over ranks. Here there is nothing.

        Args:
            latents: Those of the part that is here.
            rms: Returns the root mean square of the whole weight, 0-d; all ranks have to call it.
        """

    def resplit(self, latents: Latents, x: Tensor) -> Latents:
        """Return new latents that compose to ``x``, with what many weights share left as it is.

        Args:
            latents: Those in force, from which shared scales, thresholds or gates are taken.
            x: The weight after an edit, a revival or a restart.
        """
        return self.split(x)

    def rebalanced(self, latents: Latents, x: Tensor) -> Latents:
        """Return new latents that compose to ``x``, with all that weights share as at the start."""
        return self.split(x)

    @abstractmethod
    def compose(self, latents: Latents, out: Tensor | None = None) -> Tensor:
        """Return the weight that the latents stand for, written to ``out`` if given."""

    @abstractmethod
    def pull_back(self, latents: Latents, grad: Tensor) -> Latents:
        """Return the gradients on the moving tensors, given the gradient on ``x``."""

    def decay(self, latents: Latents, budget: float) -> None:
        """Shrink the latents in place by the decay that spends ``budget`` = lr * alpha.

        Here by ``1 - 2 * budget``, as weight decay ``2 * alpha`` of the moving ones does.
        """
        for latent in self.moving(latents).values():
            latent.mul_(1.0 - 2.0 * budget)

    def shrink(self, latents: Latents, amount: float) -> None:
        """Take, in place, a proximal L1 step of ``amount`` = lr * lambda (exact zeros)."""
        raise LookupError(f"{type(self).__name__} has no proximal step.")

    def distance(self, latents: Latents) -> Tensor:
        """Return the ``amount`` of :meth:`shrink` that would bring each weight to zero."""
        raise LookupError(f"{type(self).__name__} has no proximal step.")

    def scale(self, latents: Latents) -> Tensor:
        """Return the 0-d scale ``a``: |x| << a moves as under L2, |x| >> a as under L1.

        Here NaN: only mirror geometries have one.
        """
        return torch.full((), torch.nan)

    def moving(self, latents: Latents) -> Latents:
        """Return the tensors that the base optimizer moves."""
        return latents

    def absorb(self, latents: Latents, moved: Latents, landing: Landing) -> None:
        """Take in place what the base optimizer did to the moving tensors.

        Args:
            latents: The latents before the step, or already moved ones.
            moved: What :meth:`moving` returned, after the step.
            landing: Rate, strength and gradient of the step.
        """

    def increment(self, latents: Latents, moved: Latents) -> Tensor:
        """Return by how much the base optimizer's step moves each weight, were it at zero.

        Only geometries that move increments know that, in the shape of the weight.

        Args:
            latents: The latents before the step.
            moved: What :meth:`moving` returned, after the step.
        """
        raise LookupError(f"{type(self).__name__} moves no increments.")

    def anneal(self, latents: Latents, done: float) -> None:
        """Change in place what follows a timetable of its own, such as a temperature.

        Args:
            latents: The latents after a step.
            done: Finished part of the run, in (0, 1].
        """
