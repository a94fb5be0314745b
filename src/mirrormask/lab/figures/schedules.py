"""All schedules in three settings: PILoT's start, spred's start, L1."""

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
from mirrormask.lab.figures.shapes import (
    BUDGETS,
    SHAPES,
    SLOW,
    TRACE_COLUMNS,
    Shape,
    shaped,
    trace_rows,
)
from mirrormask.lab.figures.study import Study
from mirrormask.lab.regression import Run, Trace
from mirrormask.lab.schedules import Array, Schedule

SETTINGS = ("PILoT", "spred", "L1")

FAST_BLOCK = 20
"""Steps in a block of the fast shapes: few, yet a step still spends little of the budget."""


def plan_fast(settings: Settings) -> list[Run]:
    """Return the runs of schedules that decay in the first steps."""
    return _plan(settings, settings.steps / FAST_BLOCK)


def plan_slow(settings: Settings) -> list[Run]:
    """Return the runs of schedules that decay over the whole run."""
    return _plan(settings, SLOW)


def draw_fast(study: Study, tick: Tick) -> Figure:
    """Return the study of schedules that decay in the first steps, as the paper's do."""
    return _draw(
        study.trace(plan_fast(study.settings), tick),
        name="schedules",
        title="All schedules in three settings",
        pace=f"k counts {FAST_BLOCK} steps, so that most of the budget is spent at once",
    )


def draw_slow(study: Study, tick: Tick) -> Figure:
    """Return the study of schedules that decay over the whole run."""
    return _draw(
        study.trace(plan_slow(study.settings), tick),
        name="slow-schedules",
        title="The same schedules, decaying over the whole run",
        pace="k counts hundredths of the run",
    )


def _plan(settings: Settings, blocks: float) -> list[Run]:
    return [
        _run(setting, _name(setting, shape, budget), shaped(shape, budget, settings.time, blocks))
        for setting in SETTINGS
        for shape in SHAPES
        for budget in BUDGETS
    ]


def _run(setting: str, name: str, schedule: Schedule) -> Run:
    if setting == "L1":
        return Run(name=name, schedule=schedule, method="subgradient")
    return Run(name=name, schedule=schedule, start="spred" if setting == "spred" else "balanced")


def _name(setting: str, shape: Shape, budget: float) -> str:
    return f"{setting}, {shape}, A = {budget:g}"


def _best(trace: Trace, setting: str, shape: Shape) -> tuple[float, Array]:
    """Return the budget with the least mean error at the end, and the errors."""
    found = [(b, trace.final(_name(setting, shape, b))) for b in BUDGETS]
    return min(found, key=lambda pair: float(pair[1].mean()))


def _draw(trace: Trace, *, name: str, title: str, pace: str) -> Figure:
    drawing, panels = canvas(3, height=3.6)
    for axes, setting in zip(panels, SETTINGS, strict=True):
        for j, budget in enumerate(BUDGETS):
            errors = trace.error[:, :, trace.names.index(_name(setting, "constant", budget))]
            label, line = f"constant, A = {budget:g}", (":", "-.", "--", "-")[j]
            band(axes, trace.steps, errors, label=label, colour=COLOURS[6], line=line, shade=0.05)
        for j, shape in enumerate(SHAPES[1:]):
            budget, _ = _best(trace, setting, shape)
            errors = trace.error[:, :, trace.names.index(_name(setting, shape, budget))]
            band(axes, trace.steps, errors, label=f"best {shape}", colour=COLOURS[j])
        axes.set(xlabel="step", ylabel="‖x − truth‖₂", yscale="log", title=setting)
    legend_below(drawing, panels[0], 7)
    return Figure(
        name=name,
        title=title,
        caption="Four constants, and of each decaying shape (1/k, 1/k², 0.95^k) the budget that "
        f"ends best; {pace}. Every shape had the same four budgets to choose from. The factors "
        "remember a budget that is spent early in their scale; plain L1 forgets it. "
        "Bands: 95 % over seeds.",
        svg=to_svg(drawing, name),
        columns=TRACE_COLUMNS,
        rows=trace_rows(trace),
        findings=(_winner(trace, "PILoT"), _winner(trace, "L1"), _never_close(trace)),
    )


def _winner(trace: Trace, setting: str) -> Finding:
    ends = {shape: _best(trace, setting, shape) for shape in SHAPES}
    winner = min(ends, key=lambda shape: float(ends[shape][1].mean()))
    numbers = "; ".join(f"{s} {said(e)} at A = {b:g}" for s, (b, e) in ends.items())
    if setting == "L1":
        return Finding("a constant strength is best for L1", winner == "constant", numbers)
    return Finding("decaying schedules are best for PILoT", winner != "constant", numbers)


def _never_close(trace: Trace) -> Finding:
    ends = np.stack([_best(trace, "spred", shape)[1] for shape in SHAPES])
    ours = min(float(_best(trace, "PILoT", shape)[1].mean()) for shape in SHAPES)
    return Finding(
        "no schedule rescues spred's start",
        bool(ends.mean(axis=1).min() > 5 * ours),
        f"best of all its schedules {ends.mean(axis=1).min():.3g}, best of PILoT {ours:.3g}",
    )
