"""The settings that are tried for a method: its defaults, then points spread over its ranges."""

from __future__ import annotations

from collections.abc import Sequence

from mirrormask.errors import ArgumentError
from mirrormask.methods.record import Knob

_BASES = (2, 3, 5, 7, 11)
_SKIPPED = 2
"""Points 0 and 1 of the sequence: a corner, and the middle, which the defaults are close to."""


def trial_points(knobs: Sequence[Knob], trials: int) -> list[dict[str, float]]:
    """Return the values of some knobs in each trial.

    The first trial takes the defaults. The others are the points of Halton's sequence in the box
    of ranges, so they do not depend on results, on the order of the runs or on who runs them, and
    a knob takes the same values whatever knobs follow it: the learning rate, which comes first,
    goes through one list for all methods.

    Args:
        knobs: At most five.
        trials: How many.

    Raises:
        ArgumentError: If there are more than five knobs.

    Source: Halton (1960).

    Example:
        >>> lr = Knob(name="lr", default=0.02, low=0.01, high=1.0)
        >>> [round(point["lr"], 4) for point in trial_points([lr], 4)]
        [0.02, 0.0316, 0.3162, 0.0178]
    """
    if len(knobs) > len(_BASES):
        raise ArgumentError(
            f"{len(knobs)} knobs are too many to tune: expose at most {len(_BASES) - 1} a method."
        )
    points = [{knob.name: knob.default for knob in knobs}]
    for number in range(_SKIPPED, _SKIPPED + trials - 1):
        bases = _BASES[: len(knobs)]
        points.append(
            {k.name: k.at(radical_inverse(number, b)) for k, b in zip(knobs, bases, strict=True)}
        )
    return points


def radical_inverse(number: int, base: int) -> float:
    """Return a number's digits mirrored at the point, in [0, 1).

    Example:
        >>> [radical_inverse(n, 2) for n in range(5)]
        [0.0, 0.5, 0.25, 0.75, 0.125]
    """
    value, place = 0.0, 1.0 / base
    while number:
        number, digit = divmod(number, base)
        value += digit * place
        place /= base
    return value
