"""What a named method says about itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from mirrormask.errors import ArgumentError
from mirrormask.names import unknown_name
from mirrormask.optimizer import Recipe

Reach = Literal["mask", "strength"]
"""How a method comes to its target; the exact count is always settled by a cut."""

Base = Literal["any", "adam"]


@dataclass(frozen=True, kw_only=True)
class Knob:
    """A number of a method that is worth tuning, and where to look for it.

    Args:
        name: Keyword of the method's ``build``.
        default: Used when nothing else is asked for.
        low: Lower end of the search range.
        high: Upper end.
        log: Whether to search on a logarithmic scale.
        whole: Whether only whole numbers make sense.
        summary: One line on what it does.

    Raises:
        ArgumentError: If the default is outside the range, or the range is empty.
    """

    name: str
    default: float
    low: float
    high: float
    log: bool = True
    whole: bool = False
    summary: str = ""

    def __post_init__(self) -> None:
        if not self.low <= self.default <= self.high or self.low == self.high:
            raise ArgumentError(
                f"Knob {self.name!r} has default={self.default} and range [{self.low}, "
                f"{self.high}]: use low <= default <= high with low < high."
            )
        if self.log and self.low <= 0:
            raise ArgumentError(
                f"Knob {self.name!r} has low={self.low} on a logarithmic scale: use a positive "
                "number, or log=False."
            )

    def at(self, part: float) -> float:
        """Return the value at a part of the range, 0 for the lower end and 1 for the upper.

        Example:
            >>> Knob(name="strength", default=1e-3, low=1e-4, high=1e-2).at(0.5)
            0.001
        """
        if self.log:
            value = math.exp((1 - part) * math.log(self.low) + part * math.log(self.high))
        else:
            value = (1 - part) * self.low + part * self.high
        # Digits that nobody can tell apart only make tables hard to read.
        return float(round(value)) if self.whole else float(f"{value:.6g}")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A setting in which a method is refused, and why.

    Attributes:
        setting: What is refused, in a few words.
        reason: Why, in one sentence.
    """

    setting: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Method:
    """A named recipe with its knobs.

    Args:
        name: What callers write.
        summary: One line on what it does.
        source: Where it comes from.
        build: Takes the knobs by keyword and returns the three parts.
        knobs: At most a few numbers that are worth tuning.
        reaches: ``"mask"`` if its masking leads to the target; ``"strength"`` if the strength of
            its pressure decides how sparse it gets, so that it has to be searched, and the final
            cut settles the rest.
        base: ``"adam"`` if its paper steps it with Adam; studies do so too.
        sparsities: The only targets that it can have; empty if it can have any.
        refuses: Settings that it refuses.

    Raises:
        ArgumentError: If an option is unknown.
    """

    name: str
    summary: str
    source: str
    build: Callable[..., Recipe]
    knobs: tuple[Knob, ...] = ()
    reaches: Reach = "mask"
    base: Base = "any"
    sparsities: tuple[float, ...] = ()
    refuses: tuple[Refusal, ...] = ()

    def __post_init__(self) -> None:
        for option, value, known in (
            ("reaches", self.reaches, get_args(Reach)),
            ("base", self.base, get_args(Base)),
        ):
            if value not in known:
                raise ArgumentError(f"{option}={value!r} is unknown: use one of {known}.")

    @cached_property
    def recipe(self) -> Recipe:
        """The three parts, with every knob at its default."""
        return self.with_knobs({})

    def with_knobs(self, values: Mapping[str, float]) -> Recipe:
        """Return the three parts with some knobs turned.

        Args:
            values: By name of the knob; the others stay at their defaults. Values outside the
                search range are allowed if the method's parts accept them.

        Raises:
            ArgumentError: If there is no such knob, or a part refuses its value.

        Example:
            >>> from mirrormask.methods import method
            >>> method("l1").with_knobs({"strength": 1e-3}).pressure.strength
            0.001
        """
        known = {knob.name: knob for knob in self.knobs}
        for name, value in values.items():
            if name not in known:
                if not known:
                    raise ArgumentError(f"{self.name!r} has no knobs: leave {name!r} out.")
                raise ArgumentError(unknown_name(f"knob of {self.name}", name, known))
            if known[name].whole and value != int(value):
                raise ArgumentError(f"{name}={value} is no whole number.")
        turned = {name: knob.default for name, knob in known.items()} | dict(values)
        return self.build(
            **{name: int(v) if known[name].whole else float(v) for name, v in turned.items()}
        )

    @property
    def keeps_weight_decay(self) -> bool:
        """Whether the caller's own weight decay keeps its meaning under this method."""
        return self.recipe.geometry.keeps_weight_decay
