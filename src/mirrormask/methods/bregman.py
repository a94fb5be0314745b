"""Bregman iterations: from nearly empty networks up to the target."""

from __future__ import annotations

from mirrormask.geometry import Bregman
from mirrormask.methods.record import Base, Knob, Method
from mirrormask.optimizer import Recipe
from mirrormask.pressure import SparsityController


def recipe(strength: float, density: float) -> Recipe:
    """Return Bregman iterations whose level starts at ``2 * strength`` and is then steered.

    The level rests in the last part of the run: with a learning rate that falls to zero, weights
    could no longer follow it. The paper's interval of about 50 steps is right for long runs; short
    ones need smaller and more frequent changes to arrive.
    """
    return Recipe(
        geometry=Bregman(level=2.0 * strength, density=density),
        pressure=SparsityController(strength=strength, gain=0.1, every=10, until=0.7),
    )


def bregman(name: str, summary: str, strength: Knob, base: Base) -> Method:
    """Return the record of Bregman iterations with this base optimizer."""
    return Method(
        name=name,
        summary=summary,
        source="Bungert et al., A Bregman Learning Framework (JMLR 2022)",
        build=recipe,
        knobs=(
            strength,
            Knob(
                name="density",
                default=0.1,
                low=0.01,
                high=0.5,
                summary="part of the weights that the run starts with",
            ),
        ),
        reaches="strength",
        base=base,
    )


def strength(default: float, low: float, high: float) -> Knob:
    """Return the knob of the first level."""
    return Knob(
        name="strength",
        default=default,
        low=low,
        high=high,
        summary="half the first level that summed gradients have to pass",
    )


RECORDS = (
    bregman(
        "linbreg",
        "Bregman iterations from a sparse start, the level steered to the target",
        strength(5e-2, low=5e-3, high=3e-1),
        "any",
    ),
    bregman(
        "adabreg",
        "the same with the steps of Adam",
        strength(1.5e-1, low=2e-2, high=6e-1),
        "adam",
    ),
)
