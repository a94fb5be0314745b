"""The regularisers side by side, each under a constant and a decaying strength."""

from __future__ import annotations

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
from mirrormask.lab.figures.shapes import TRACE_COLUMNS, Shape, shaped, trace_rows
from mirrormask.lab.figures.study import Study
from mirrormask.lab.regression import Run
from mirrormask.lab.schedules import Constant

BUDGET = 2.0
PANELS: tuple[Shape, ...] = ("constant", "geometric")
RIVALS = ("PILoT", "spred", "L1 subgradient", "ISTA", "FISTA", "L1 on the mask")


def plan(settings: Settings) -> list[Run]:
    """Return the runs that the figure shows."""
    runs = [Run(name="none", schedule=Constant(strength=0.0))]
    for shape in PANELS:
        s = shaped(shape, BUDGET, settings.time)
        runs += [
            Run(name=f"PILoT, {shape}", schedule=s),
            Run(name=f"spred, {shape}", schedule=s, start="spred"),
            Run(name=f"L1 subgradient, {shape}", schedule=s, method="subgradient"),
            Run(name=f"ISTA, {shape}", schedule=s, method="ista"),
            Run(name=f"FISTA, {shape}", schedule=s, method="fista"),
            Run(name=f"L1 on the mask, {shape}", schedule=s, method="mask-l1"),
        ]
    return runs


def draw(study: Study, tick: Tick) -> Figure:
    """Return the error over time of six regularisers and none."""
    trace = study.trace(plan(study.settings), tick)
    drawing, panels = canvas(2)
    for axes, shape in zip(panels, PANELS, strict=True):
        for j, rival in enumerate(RIVALS):
            column = trace.names.index(f"{rival}, {shape}")
            line = "--" if rival in ("ISTA", "FISTA") else "-"
            band(
                axes,
                trace.steps,
                trace.error[:, :, column],
                label=rival,
                colour=COLOURS[j],
                line=line,
            )
        band(axes, trace.steps, trace.error[:, :, 0], label="none", colour=COLOURS[6], line=":")
        axes.set(xlabel="step", ylabel="‖x − truth‖₂", yscale="log", title=f"{shape} strength")
    legend_below(drawing, panels[0], 4)
    ours, none = trace.final("PILoT, geometric"), trace.final("none")
    l1 = trace.final("ISTA, geometric")
    findings = (
        Finding(
            "PILoT with a decaying strength recovers far better than no regulariser",
            bool((ours < 0.5 * none).all()),
            f"PILoT {said(ours)}, none {said(none)}",
        ),
        Finding(
            "PILoT with a decaying strength recovers better than L1 with the same strengths",
            bool((ours < l1).all()),
            f"PILoT {said(ours)}, L1 {said(l1)}: the effective L1 weight is the same, but here "
            "an L2-like phase comes first and takes its share of the budget",
        ),
    )
    return Figure(
        name="regularisers",
        title="Regularisers compared",
        caption=f"All have the budget A = {BUDGET:g} at the end; decay alpha of both factors is "
        "set beside an L1 weight of 2 alpha. Left constant, right geometric decay. "
        "Bands: 95 % over seeds.",
        svg=to_svg(drawing, "regularisers"),
        columns=TRACE_COLUMNS,
        rows=trace_rows(trace),
        findings=findings,
    )
