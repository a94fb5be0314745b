"""When the weights are cut: at the end, once and frozen, or gradually."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from torch import Generator, Tensor

from mirrormask.errors import ArgumentError
from mirrormask.masking.budget import Scope
from mirrormask.masking.floor import protect
from mirrormask.masking.pattern import Pattern, Unstructured
from mirrormask.masking.score import Score, scores

Rewind = Literal["rate", "weights"]
"""What starts again after a cycle: the optimizer alone, or with it all weights."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """What a masking sees when it chooses.

    Attributes:
        magnitudes: ``|x|`` of each tensor, in full precision.
        kept: The masks in force, True where kept; all True before the first cut.
        gradients: ``|dense gradient|`` of each tensor in the step just done, also where it is cut,
            if the masking asked for it.
        squares: Running mean of the squared dense gradient of each tensor, if the masking senses
            it.
        step: Optimizer steps done.
        steps: Optimizer steps in the whole run.
        generator: On the CPU, seeded by the run and the step: the only source of randomness.
    """

    magnitudes: Sequence[Tensor]
    kept: Sequence[Tensor]
    gradients: Sequence[Tensor] | None
    squares: Sequence[Tensor] | None = None
    step: int
    steps: int
    generator: Generator


@dataclass(frozen=True, kw_only=True)
class Masking(ABC):
    """A timetable of cuts, and the choice of what is cut.

    Args:
        scope: Where scores compete: ``"global"`` over all tensors, or inside each tensor with
            ``"uniform"`` or ``"erk"`` sparsities.
        pattern: Which sets of weights may be zero.
        score: What is compared: ``"magnitude"``, or ``"saliency"``, the magnitude times the root
            of the mean squared gradient, see :mod:`mirrormask.masking.score`.
        floor: Part of the overall density that no tensor falls below, in [0, 1]; above 0 every
            tensor keeps at least one weight, as far as there are enough.

    Raises:
        ArgumentError: If an option is unknown or outside its domain.
    """

    scope: Scope = "global"
    pattern: Pattern = field(default_factory=Unstructured)
    score: Score = "magnitude"
    floor: float = 0.0

    def __post_init__(self) -> None:
        for option, value, known in (
            ("scope", self.scope, get_args(Scope)),
            ("score", self.score, get_args(Score)),
        ):
            if value not in known:
                raise ArgumentError(f"{option}={value!r} is unknown: use one of {known}.")
        if not 0 <= self.floor <= 1:
            raise ArgumentError(f"floor={self.floor} is not a part: use a number in [0, 1].")
        if self.floor > 0 and (self.pattern != Unstructured() or self.scope != "global"):
            raise ArgumentError(
                f"floor={self.floor} protects single weights from those of other tensors: leave it "
                f"out with scope={self.scope!r} and pattern={self.pattern}."
            )

    def refuse_scores(self, reason: str) -> None:
        """Refuse options of scores where the choice is not by them.

        Raises:
            ArgumentError: If one was given.
        """
        if self.score != "magnitude" or self.floor != 0:
            raise ArgumentError(
                f"{type(self).__name__} {reason}: leave score={self.score!r} and "
                f"floor={self.floor} out."
            )

    @abstractmethod
    def cut_after(self, step: int, steps: int, sparsity: float) -> float | None:
        """Return the sparsity to cut to after ``step``, or None for no change of the mask.

        Args:
            step: Optimizer steps done, 0 (before training) to ``steps``.
            steps: Optimizer steps in the whole run.
            sparsity: The target.

        Returns:
            A sparsity in [0, target]; 0 releases all weights.
        """

    def choose(self, candidates: Candidates, sparsity: float) -> list[Tensor]:
        """Return masks of this sparsity, True where kept: here the highest scores."""
        worth = scores(self.score, candidates.magnitudes, candidates.kept, candidates.squares)
        return self.pattern.keep(protect(worth, sparsity, self.floor), sparsity, self.scope)

    def senses(self, step: int, steps: int) -> bool:
        """Return whether squared gradients are averaged in ``step`` (1 to ``steps``), for scores.

        What was averaged is kept up to the last step in which this holds.
        """
        return self.score == "saliency" and step <= self.last_cut(steps)

    def last_cut(self, steps: int) -> int:
        """Return the last step after which weights are chosen; here that of the whole run."""
        return steps

    def needs_gradients(self, step: int, steps: int) -> bool:
        """Return whether :meth:`choose` after ``step`` (1 to ``steps``) asks for gradients."""
        return False

    def phase(self, step: int, steps: int) -> tuple[int, int]:
        """Return the first step, and the number of steps, of the phase that a step is in.

        Pressure, rebalancing and learning-rate schedules start again in each phase.

        Args:
            step: Number of the step, 0 to ``steps - 1``.
            steps: Optimizer steps in the whole run.
        """
        return 0, steps

    def stores_after(self, step: int, steps: int) -> bool:
        """Return whether the model as it is after ``step`` is what cycles rewind to."""
        return False

    def rewind_after(self, step: int, steps: int) -> Rewind | None:
        """Return what starts again after ``step``, once the mask is cut."""
        return None


@dataclass(frozen=True, kw_only=True)
class AtEnd(Masking):
    """Cut once, when ``finalize`` is called."""

    def cut_after(self, step: int, steps: int, sparsity: float) -> float | None:
        """Return None: no cut during training."""
        return None


@dataclass(frozen=True, kw_only=True)
class ProjectAndFreeze(Masking):
    """Cut to the target once, and train the rest of the run on the weights that are left.

    Args:
        at: Fraction of the run after which to cut, in (0, 1].

    Example:
        >>> policy = ProjectAndFreeze(at=0.5)
        >>> [policy.cut_after(step, 4, 0.9) for step in (1, 2, 3, 4)]
        [None, 0.9, None, None]
    """

    at: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fraction("at", self.at)

    def cut_after(self, step: int, steps: int, sparsity: float) -> float | None:
        """Return the target at one step."""
        return sparsity if step == self.last_cut(steps) else None

    def last_cut(self, steps: int) -> int:
        """Return the step of the cut."""
        return max(1, round(self.at * steps))


@dataclass(frozen=True, kw_only=True)
class GradualCubic(Masking):
    """Raise the sparsity along ``target * (1 - (1 - u)**3)`` while ``u`` goes from 0 to 1.

    Source: Zhu & Gupta, "To prune, or not to prune" (2017).

    Args:
        begin: Fraction of the run at which ``u = 0``.
        end: Fraction of the run at which ``u = 1``.
        cuts: Number of cuts between the two, evenly spaced, the last one at ``end``.

    Example:
        >>> policy = GradualCubic(begin=0.0, end=1.0, cuts=2)
        >>> [policy.cut_after(step, 4, 0.5) for step in (1, 2, 3, 4)]
        [None, 0.4375, None, 0.5]
    """

    begin: float = 0.2
    end: float = 0.7
    cuts: int = 40

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_fraction("end", self.end)
        if not 0 <= self.begin < self.end:
            raise ArgumentError(
                f"begin={self.begin} does not precede end={self.end}: use 0 <= begin < end."
            )
        if self.cuts < 1:
            raise ArgumentError(f"cuts={self.cuts} is too few: use at least 1.")

    def cut_after(self, step: int, steps: int, sparsity: float) -> float | None:
        """Return the ramp's sparsity on the steps of its grid."""
        first, last = self.begin * steps, self.last_cut(steps)
        # A ramp shorter than one step has no step inside, and still has to arrive.
        if step == last:
            return sparsity
        if step > last or step <= first:
            return None
        # The grid may be finer than the steps: cut whenever one or more of its points went by.
        spacing = (last - first) / self.cuts
        if int((step - first) / spacing) == int((step - 1 - first) / spacing):
            return None
        return sparsity * (1.0 - (1.0 - (step - first) / (last - first)) ** 3)

    def last_cut(self, steps: int) -> int:
        """Return the step in which the ramp arrives."""
        return max(1, round(self.end * steps))


def _check_fraction(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ArgumentError(f"{name}={value} is not a part of the run: use a number in (0, 1].")
