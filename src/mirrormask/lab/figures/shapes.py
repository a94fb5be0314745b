"""The paper's shapes of regularisation over time, brought to one budget."""

from __future__ import annotations

from typing import Literal

from mirrormask.lab.figures.figure import Row
from mirrormask.lab.regression import Trace
from mirrormask.lab.schedules import Constant, Geometric, Harmonic, Quadratic, Schedule

Shape = Literal["constant", "harmonic", "quadratic", "geometric"]
SHAPES: tuple[Shape, ...] = ("constant", "harmonic", "quadratic", "geometric")

BUDGETS = (0.5, 1.0, 2.0, 3.0)
"""Budgets at the end of a run, the four constants among them."""

SLOW = 100.0
"""Blocks in a run: the decaying shapes are 1/k, 1/k² and 0.95^k of the block k."""


SHAPE_OF: dict[Shape, type[Harmonic] | type[Quadratic] | type[Geometric]] = {
    "harmonic": Harmonic,
    "quadratic": Quadratic,
    "geometric": Geometric,
}


def shaped(shape: Shape, budget: float, time: float, blocks: float = SLOW) -> Schedule:
    """Return the schedule of a shape that has spent ``budget`` at ``time``.

    Example:
        >>> round(shaped("harmonic", 2.0, 5.0).budget(5.0), 12)
        2.0
    """
    if shape == "constant":
        return Constant(strength=budget / time)
    unit = time / blocks
    plain = SHAPE_OF[shape](strength=1.0, unit=unit)
    return SHAPE_OF[shape](strength=budget / plain.budget(time), unit=unit)


def trace_rows(trace: Trace) -> list[Row]:
    """Return (step, run, seed, error, loss) of everything recorded."""
    return [
        (int(step), name, seed, float(trace.error[i, seed, j]), float(trace.loss[i, seed, j]))
        for j, name in enumerate(trace.names)
        for i, step in enumerate(trace.steps)
        for seed in range(trace.error.shape[1])
    ]


TRACE_COLUMNS = ("step", "run", "seed", "error", "loss")
