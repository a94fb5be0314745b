"""What every pressure must say about itself, and the two that need no feedback."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from mirrormask.errors import ArgumentError

Application = Literal["decay", "proximal", "subgradient"]
PressureState = dict[str, float]
"""What a pressure remembers between steps: plain numbers, so that checkpoints stay plain."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Where in the run a step is.

    Attributes:
        step: Number of the step, from 0.
        steps: Optimizer steps in the whole run.
        rate: Budget that a unit of alpha spends in this step: learning rate times momentum gain.
    """

    step: int
    steps: int
    rate: float

    def before(self, fraction: float) -> bool:
        """Return whether this step lies in the first ``fraction`` of the run."""
        return self.step < fraction * self.steps

    def is_one_of(self, intervals: int, fraction: float) -> bool:
        """Return whether this step begins one of so many intervals of the first ``fraction``."""
        every = max(1, round(fraction * self.steps / intervals))
        return self.step % every == 0 and self.before(fraction)


@dataclass(frozen=True, kw_only=True)
class TrainingSignal:
    """What a training loop tells at the end of an epoch.

    Attributes:
        accuracy: Training accuracy of the epoch, any increasing measure of success.
        l1: Sum of ``|x|`` over the targeted weights.
        step: Optimizer steps done.
    """

    accuracy: float
    l1: float
    step: int


@dataclass(frozen=True, kw_only=True)
class Pressure(ABC):
    """The strength ``alpha`` of the regulariser over the steps of a run.

    ``alpha`` means the same everywhere: at a constant value it is an L1 penalty of weight
    ``2 * alpha``. A pressure is a frozen set of options and pure functions; what it remembers is
    a :data:`PressureState` that the optimizer keeps.

    Args:
        application: ``"decay"`` shrinks the latents of the geometry; ``"proximal"`` takes a
            proximal L1 step, with exact zeros; ``"subgradient"`` adds ``2 * alpha * sign(x)`` to
            the gradient, as an L1 term in the loss does.
    """

    application: Application = "decay"

    def __post_init__(self) -> None:
        if self.application not in get_args(Application):
            raise ArgumentError(
                f"application={self.application!r} is unknown: use one of {get_args(Application)}."
            )

    @abstractmethod
    def start(self, l1: float) -> PressureState:
        """Return the state before the first step, given the sum of ``|x|`` at the start."""

    @abstractmethod
    def alpha(self, state: PressureState, clock: Clock) -> float:
        """Return the strength for a step."""

    @property
    def asks_for_pull(self) -> bool:
        """Whether measurements end with the pull of the loss, see :meth:`react`."""
        return False

    def measures_at(self, clock: Clock) -> bool:
        """Return whether :meth:`measure` is wanted in a step."""
        return False

    def measure(self, distances: Sequence[Tensor], sparsity: float) -> Tensor:
        """Return what the feedback needs as one 1-d tensor on the device, without a sync.

        Args:
            distances: How far each weight is from zero: the proximal amount that would bring it
                there, or ``|x|`` under decay.
            sparsity: The target.
        """
        raise LookupError(f"{type(self).__name__} measures nothing.")

    def react(self, state: PressureState, measured: Sequence[float], clock: Clock) -> PressureState:
        """Return the state after a measurement of an earlier step has arrived on the host.

        Args:
            state: Before it.
            measured: What :meth:`measure` returned; with :attr:`asks_for_pull` also, last, the root
                mean square of the step that the optimizer took with live weights, in units of
                ``Clock.rate``: as large as a gradient that does it in the long run.
            clock: Of the step at hand.
        """
        return state

    def observe(self, state: PressureState, signal: TrainingSignal, steps: int) -> PressureState:
        """Return the state after the training loop has reported an epoch."""
        return state


@dataclass(frozen=True, kw_only=True)
class NoPressure(Pressure):
    """No regularisation beyond what the geometry does by itself."""

    def start(self, l1: float) -> PressureState:
        """Return an empty state."""
        return {}

    def alpha(self, state: PressureState, clock: Clock) -> float:
        """Return 0."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Constant(Pressure):
    """The same strength in every step up to ``until``, then none.

    Args:
        strength: The strength, at least 0; an L1 penalty of weight ``2 * strength``.
        until: Fraction of the run after which the pressure is off, in (0, 1].

    Example:
        >>> pressure = Constant(strength=1e-4, until=0.5)
        >>> clocks = [Clock(step=step, steps=4, rate=0.1) for step in range(4)]
        >>> [pressure.alpha(pressure.start(1.0), clock) for clock in clocks]
        [0.0001, 0.0001, 0.0, 0.0]
    """

    strength: float
    until: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("strength", self.strength)
        check_fraction("until", self.until)

    def start(self, l1: float) -> PressureState:
        """Return an empty state."""
        return {}

    def alpha(self, state: PressureState, clock: Clock) -> float:
        """Return the strength, or 0 once ``until`` has passed."""
        return self.strength if clock.before(self.until) else 0.0


def check_strength(name: str, value: float) -> None:
    """Refuse a strength that is negative or not finite."""
    if not (math.isfinite(value) and value >= 0):
        raise ArgumentError(f"{name}={value} is not a strength: use a finite number >= 0.")


def check_fraction(name: str, value: float) -> None:
    """Refuse a fraction of the run outside (0, 1]."""
    if not 0 < value <= 1:
        raise ArgumentError(f"{name}={value} is not a part of the run: use a number in (0, 1].")
