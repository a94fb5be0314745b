"""Bregman iterations: from nearly empty networks up to the target."""

from __future__ import annotations

from mirrormask.geometry import Bregman
from mirrormask.methods.record import Base, Knob, Method
from mirrormask.optimizer import Recipe
from mirrormask.pressure import SparsityController


def recipe(strength: float, density: float) -> Recipe:
    """Return Bregman iterations whose level starts at ``2 * strength`` and is then steered."""
    return Recipe(
        geometry=Bregman(level=2.0 * strength, density=density),
        pressure=SparsityController(strength=strength),
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
        strength(3e-2, low=1e-3, high=3e-1),
        "any",
    ),
    bregman(
        "adabreg",
        "the same with the steps of Adam",
        strength(3e-2, low=1e-3, high=3e-1),
        "adam",
    ),
)
