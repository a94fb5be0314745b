"""The potential bends from L2 to L1 as the scale falls."""

from __future__ import annotations

import numpy as np

from mirrormask.lab.figures.figure import (
    COLOURS,
    Figure,
    Finding,
    Row,
    Tick,
    canvas,
    legend_below,
    to_svg,
)
from mirrormask.lab.figures.study import Study
from mirrormask.lab.potential import bregman, effective_exponent, scale_at

BUDGETS = (0.0, 0.5, 1.0, 2.0, 3.0)


def draw(study: Study, tick: Tick) -> Figure:
    """Return the potential and its local exponent for falling scales."""
    drawing, (shape, exponent) = canvas(2)
    rows: list[Row] = []
    at_one = []
    x = np.linspace(-1.5, 1.5, 301)
    size = np.geomspace(1e-4, 1e1, 200)
    for j, budget in enumerate(BUDGETS):
        a = scale_at(budget)
        height = bregman(x[:, None], np.zeros((1, 1)), a)
        height = height / float(bregman(np.ones(1), np.zeros(1), a))
        label = f"A = {budget:g}, a = {a:.1e}"
        shape.plot(x, height, color=COLOURS[j], label=label)
        power = effective_exponent(size[:, None], a)
        exponent.plot(size, power, color=COLOURS[j], label=label)
        at_one.append(float(effective_exponent(np.ones(1), a)))
        rows += [(budget, a, float(u), float(v)) for u, v in zip(size, power, strict=True)]
    shape.plot(x, x**2, ":", color="black", label="x²")
    shape.plot(x, np.abs(x), "--", color="black", label="|x|")
    shape.set(xlabel="x", ylabel="(R(x) − R(0)) / (R(1) − R(0))", title="Shape")
    exponent.set(xlabel="|x|", ylabel="d log R / d log |x|", xscale="log", title="Local exponent")
    legend_below(drawing, shape, 4)
    tick()
    return Figure(
        name="bending",
        title="The potential bends from L2 to L1",
        caption="The potential of the start x0 = 0, scaled to 1 at x = 1 (left), and the power "
        "with which it rises (right): 2 where |x| is below the scale a = exp(−4A)/2, falling "
        "towards 1 above it. It reaches 1 only like 1 + 1/log(2|x|/a).",
        svg=to_svg(drawing, "bending"),
        columns=("budget", "scale", "size", "exponent"),
        rows=rows,
        findings=(
            Finding(
                "at |x| = 1 the exponent falls with the budget, from L2 towards L1",
                bool(np.all(np.diff(at_one) < 0)) and at_one[-1] < 1.1,
                ", ".join(f"A = {b:g}: {p:.2f}" for b, p in zip(BUDGETS, at_one, strict=True)),
            ),
        ),
    )
