"""Recovery improves with the budget, and where the limit theorem says it should end."""

from __future__ import annotations

import numpy as np

from mirrormask.lab.figures.figure import (
    COLOURS,
    Figure,
    Finding,
    Row,
    Settings,
    Tick,
    band,
    canvas,
    legend_below,
    said,
    to_svg,
)
from mirrormask.lab.figures.shapes import SHAPES, shaped
from mirrormask.lab.figures.study import Study
from mirrormask.lab.interpolation import least_potential
from mirrormask.lab.potential import scale_at
from mirrormask.lab.regression import Run
from mirrormask.lab.schedules import Array

BUDGETS = (0.0, 0.5, 1.0, 2.0, 3.0)


def plan(settings: Settings) -> list[Run]:
    """Return the runs that the figure shows."""
    return [
        Run(name=f"{shape} {budget:g}", schedule=shaped(shape, budget, settings.time))
        for shape in SHAPES
        for budget in BUDGETS
    ]


def draw(study: Study, tick: Tick) -> Figure:
    """Return the error at the end over the budget, beside the minimiser of the potential."""
    problems = study.problems
    trace = study.trace(plan(study.settings), tick)
    limit = np.empty((len(BUDGETS), study.settings.seeds))
    for i, budget in enumerate(BUDGETS):
        for seed in range(study.settings.seeds):
            z, y, x0 = problems.z[seed], problems.y[seed], problems.x0[seed]
            x = least_potential(z, y, scale_at(budget), x0=x0).x
            limit[i, seed] = np.linalg.norm(x - problems.truth[seed])
    drawing, (axes,) = canvas()
    rows: list[Row] = []
    errors: dict[str, Array] = {}
    for j, shape in enumerate(SHAPES):
        errors[shape] = np.stack([trace.final(f"{shape} {budget:g}") for budget in BUDGETS])
        band(axes, np.array(BUDGETS), errors[shape], label=shape, colour=COLOURS[j])
    band(axes, np.array(BUDGETS), limit, label="argmin of R on {Zx = Y}", colour="black", line="--")
    axes.set(xlabel="budget A at the end", ylabel="‖x − truth‖₂", yscale="log")
    legend_below(drawing, axes, 3)
    named: list[tuple[str, Array]] = [*errors.items(), ("limit", limit)]
    for name, values in named:
        rows += [
            (budget, name, seed, float(values[i, seed]))
            for i, budget in enumerate(BUDGETS)
            for seed in range(study.settings.seeds)
        ]
    findings = []
    for name, values in (("the limit", limit), ("geometric decay", errors["geometric"])):
        means = values.mean(axis=1)
        findings.append(
            Finding(
                f"the error falls monotonically with A ({name})",
                bool(np.all(np.diff(means) < 0)),
                "; ".join(f"A = {b:g}: {said(v)}" for b, v in zip(BUDGETS, values, strict=True)),
            )
        )
    return Figure(
        name="budget",
        title="More budget, better recovery",
        caption="Error at the end of descent over the budget spent, for four shapes, and the "
        "error of the solution with the least potential at the final scale (dashed): what "
        "the limit theorem predicts for a schedule that is switched off in time. A constant "
        "strength is still pulling at the end, so it falls short. Bands: 95 % over seeds.",
        svg=to_svg(drawing, "budget"),
        columns=("budget", "shape", "seed", "error"),
        rows=rows,
        findings=tuple(findings),
    )
