"""Stochastic gradients, batch 5."""

from __future__ import annotations

import numpy as np

from mirrormask.lab.figures.figure import (
    COLOURS,
    Figure,
    Finding,
    Tick,
    band,
    canvas,
    legend_below,
    said,
    to_svg,
)
from mirrormask.lab.figures.shapes import SHAPES, TRACE_COLUMNS, shaped, trace_rows
from mirrormask.lab.figures.study import Study
from mirrormask.lab.regression import Run, descend
from mirrormask.lab.schedules import Constant

BUDGET, BATCH = 3.0, 5


def draw(study: Study, tick: Tick) -> Figure:
    """Return the error over time of stochastic descent."""
    time = study.settings.time
    runs = [Run(name="none", schedule=Constant(strength=0.0))]
    runs += [Run(name=f"PILoT, {s}", schedule=shaped(s, BUDGET, time)) for s in SHAPES]
    runs.append(
        Run(name="spred, geometric", schedule=shaped("geometric", BUDGET, time), start="spred")
    )
    trace = descend(
        study.problems,
        runs,
        steps=study.settings.steps,
        lr=study.settings.lr,
        batch=BATCH,
        on_record=tick,
    )
    drawing, (axes,) = canvas()
    for j, name in enumerate(trace.names):
        band(
            axes,
            trace.steps,
            trace.error[:, :, j],
            label=name,
            colour=COLOURS[(j - 1) % len(COLOURS)],
        )
    axes.set(xlabel="step", ylabel="‖x − truth‖₂", yscale="log")
    legend_below(drawing, axes, 3)
    decaying = np.stack([trace.final(f"PILoT, {s}") for s in SHAPES[1:]]).mean(axis=1).min()
    constant, spred = trace.final("PILoT, constant"), trace.final("spred, geometric")
    return Figure(
        name="stochastic",
        title="Stochastic gradients",
        caption=f"The same with batches of {BATCH} samples, drawn with replacement; budget "
        f"A = {BUDGET:g}. Bands: 95 % over seeds.",
        svg=to_svg(drawing, "stochastic"),
        columns=TRACE_COLUMNS,
        rows=trace_rows(trace),
        findings=(
            Finding(
                "with stochastic gradients too, decaying beats constant and spred's start fails",
                bool(decaying < constant.mean() and spred.mean() > 5 * decaying),
                f"best decaying {decaying:.3g}, constant {said(constant)}, spred {said(spred)}",
            ),
        ),
    )
