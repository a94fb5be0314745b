"""The start decides: balanced factors recover the truth, spred's and equal factors cannot."""

from __future__ import annotations

import numpy as np

from mirrormask.lab.figures.figure import (
    COLOURS,
    Figure,
    Finding,
    Settings,
    Tick,
    band,
    canvas,
    legend_below,
    said,
    to_svg,
)
from mirrormask.lab.figures.shapes import TRACE_COLUMNS, shaped, trace_rows
from mirrormask.lab.figures.study import Study
from mirrormask.lab.regression import Run

BUDGET = 3.0


def plan(settings: Settings) -> list[Run]:
    """Return the runs that the figure shows."""
    schedule = shaped("geometric", BUDGET, settings.time)
    return [
        Run(name="balanced, beta = 1", schedule=schedule),
        Run(name="balanced, beta = 0.1", schedule=schedule, beta=0.1),
        Run(name="balanced, beta = 0.01", schedule=schedule, beta=0.01),
        Run(name="spred, beta = 0", schedule=schedule, start="spred"),
        Run(name="equal, m = w", schedule=schedule, start="equal"),
    ]


def draw(study: Study, tick: Tick) -> Figure:
    """Return the error over time of five starts under one schedule."""
    trace = study.trace(plan(study.settings), tick)
    drawing, (axes,) = canvas()
    for j, name in enumerate(trace.names):
        band(axes, trace.steps, trace.error[:, :, j], label=name, colour=COLOURS[j])
    axes.set(xlabel="step", ylabel="‖x − truth‖₂", yscale="log")
    legend_below(drawing, axes, 3)
    spred = trace.error[:, :, trace.names.index("spred, beta = 0")]
    closest = spred.min(axis=0) / spred[0]
    ours = trace.final("balanced, beta = 1")
    finding = Finding(
        "spred's start never gets close",
        bool(np.all(spred.min(axis=0) > 3 * ours)),
        f"closest approach of spred's start {said(spred.min(axis=0))} "
        f"({said(100 * closest)} % of where it began); balanced start ends at {said(ours)}",
    )
    return Figure(
        name="start",
        title="The start",
        caption="Descent on under-determined regression with a decaying schedule (geometric, "
        f"budget A = {BUDGET:g}), from the same weights split in five ways. Without balance "
        "(beta = 0) no sign can change, so spred's start keeps the wrong signs that it was "
        "born with; equal factors cannot even go below zero. Bands: 95 % over seeds.",
        svg=to_svg(drawing, "start"),
        columns=TRACE_COLUMNS,
        rows=trace_rows(trace),
        findings=(finding,),
    )
