"""The pictures of a comparison's page, each a function from a summary to SVG text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mirrormask.study.compare.summary import Entry, ProblemSummary
from mirrormask.study.svg import DENSE, SPARSE, STYLE, THIRD, svg_text

_OTHERS = (THIRD, "#2c8a57", "#7d4fa3", "#a37b00", "#c23a5e")
_FAINT = "#d5d9de"
COLUMNS = 4


def overview(problem: ProblemSummary, reference: str) -> str:
    """Draw accuracy against sparsity: reference, winners and leaders in colour, others faint."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 4.6), layout="constrained")
        axes = figure.subplots()
    shown = highlighted(problem, reference)
    low, high = limits(problem)
    for method in problem.methods:
        if method not in shown:
            _line(axes, problem.curve(method), _FAINT, width=1.0)
    ends = []
    for method, colour in shown.items():
        curve = problem.curve(method)
        _line(axes, curve, colour, width=2.0)
        _band(axes, curve, colour)
        if visible := [entry for entry in curve if _percent(entry) >= low]:
            ends.append((visible[-1], method, colour))
    for sparsity in problem.sparsities:
        here = [end for end in ends if end[0].sparsity == sparsity]
        heights = spread([_percent(entry) for entry, _, _ in here], (high - low) * 0.055)
        for (_, method, colour), height in zip(here, heights, strict=True):
            axes.annotate(
                method,
                (_x(sparsity), height),
                xytext=(8, 0),
                textcoords="offset points",
                color=colour,
                va="center",
                weight="bold" if method == reference else "normal",
                annotation_clip=False,
            )
    _dense(axes, problem, label=True)
    _axes(axes, problem, low, high)
    axes.set_xlabel("zeros (%)")
    axes.set_ylabel("test accuracy (%)")
    return svg_text(figure, f"{problem.name}: accuracy against sparsity, leaders in colour")


def multiples(problem: ProblemSummary, reference: str) -> str:
    """Draw one small panel a method, with its band, before all the others."""
    methods = [method for method in problem.methods if problem.curve(method)]
    rows = math.ceil(len(methods) / COLUMNS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 0.4 + 1.75 * rows), layout="constrained")
        panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    low, high = limits(problem)
    flat = [axes for row in panels for axes in row]
    for axes, method in zip(flat, methods, strict=False):
        for other in methods:
            if other != method:
                _line(axes, problem.curve(other), _FAINT, width=0.7)
        colour = SPARSE if method == reference else THIRD
        if method != reference:
            _line(axes, problem.curve(reference), SPARSE, width=0.9)
        _line(axes, problem.curve(method), colour, width=1.8)
        _band(axes, problem.curve(method), colour)
        _dense(axes, problem, label=False)
        _axes(axes, problem, low, high)
        axes.tick_params(labelsize=8)
        axes.set_title(method, fontsize=9, color=colour, loc="left", pad=3)
    for axes in flat[len(methods) :]:
        axes.set_axis_off()
    return svg_text(figure, f"{problem.name}: every method by itself")


def against_flops(problem: ProblemSummary, reference: str) -> str:
    """Draw accuracy against theoretical training FLOPs, one panel a sparsity."""
    count = max(1, len(problem.sparsities))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 0.5 + 2.3 * math.ceil(count / 2)), layout="constrained")
        panels = figure.subplots(math.ceil(count / 2), min(2, count), squeeze=False)
    flat = [axes for row in panels for axes in row]
    shown = highlighted(problem, reference)
    for axes, sparsity in zip(flat, problem.sparsities, strict=False):
        entries = [
            problem.entries[method, sparsity]
            for method in problem.methods
            if (method, sparsity) in problem.entries
        ]
        entries = [entry for entry in entries if entry.accuracy and math.isfinite(entry.flops)]
        front = pareto(entries)
        for entry in entries:
            colour = shown.get(entry.method, "#9aa1ab")
            axes.plot(entry.flops, _percent(entry), "o", ms=5, c=colour, zorder=3)
        steps = sorted(front, key=lambda entry: entry.flops)
        axes.step(
            [e.flops for e in steps], [_percent(e) for e in steps], where="post", c=_FAINT, lw=1
        )
        for entry in front:
            axes.annotate(
                entry.method,
                (entry.flops, _percent(entry)),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=8,
                color=shown.get(entry.method, "#5b6573"),
            )
        _dense(axes, problem, label=False)
        axes.set_xlim(0, 1.08 * max([1.0, *(entry.flops for entry in entries)]))
        values = [_percent(entry) for entry in entries] or [100.0]
        dense = problem.dense.accuracy if problem.dense else None
        top = max(*values, 100 * dense.mean if dense else 0.0)
        low = max(min(median(values) - 2.0, max(values) - 3.0), max(values) - 12.0)
        axes.set_ylim(low, top + 0.1 * (top - low))
        axes.set_title(f"{100 * sparsity:g} % zeros", fontsize=9, loc="left")
        axes.tick_params(labelsize=8)
    for axes in flat[len(problem.sparsities) :]:
        axes.set_axis_off()
    figure.supxlabel("training FLOPs in theory, dense training = 1", fontsize=10)
    figure.supylabel("test accuracy (%)", fontsize=10)
    return svg_text(figure, f"{problem.name}: accuracy against training FLOPs")


def highlighted(problem: ProblemSummary, reference: str, most: int = 6) -> dict[str, str]:
    """Return the methods worth a colour: the reference, winners, then leaders over all levels.

    Those that end far below the others get none.
    """
    leaders = [winner.name for winner in problem.winners.values()]
    low, _ = limits(problem)
    means = {
        method: sum(_percent(entry) for entry in problem.curve(method))
        for method in problem.methods
        if len(problem.curve(method)) == len(problem.sparsities)
        and _percent(problem.curve(method)[-1]) >= low
    }
    leaders += sorted(means, key=lambda method: -means[method])
    names = [reference] if reference in problem.methods else []
    for name in leaders:
        if name not in names and len(names) < most:
            names.append(name)
    colours = iter(_OTHERS)
    return {name: SPARSE if name == reference else next(colours) for name in names}


def pareto(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries that no other beats in accuracy at the same FLOPs or fewer."""
    front: list[Entry] = []
    for entry in sorted(entries, key=lambda e: (round(e.flops, 6), -_percent(e))):
        if not front or _percent(entry) > max(_percent(e) for e in front):
            front.append(entry)
    return front


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Return heights moved apart so that labels do not touch, in the same order.

    Example:
        >>> spread([1.0, 1.0, 5.0], gap=1.0)
        [0.5, 1.5, 5.0]
    """
    order = sorted(range(len(heights)), key=heights.__getitem__)
    groups: list[tuple[float, int]] = []  # middle and size of each stack of labels
    for place in order:
        middle, size = heights[place], 1
        while groups and middle - groups[-1][0] < gap * (size + groups[-1][1]) / 2:
            other, more = groups.pop()
            middle = (middle * size + other * more) / (size + more)
            size += more
        groups.append((middle, size))
    placed = [m + gap * (i - (size - 1) / 2) for m, size in groups for i in range(size)]
    return [placed[order.index(place)] for place in range(len(heights))]


def _x(sparsity: float) -> float:
    return -math.log10(1.0 - sparsity)


def _percent(entry: Entry) -> float:
    return math.nan if entry.accuracy is None else 100 * entry.accuracy.mean


def _line(axes: Axes, curve: Sequence[Entry], colour: str, *, width: float) -> None:
    marker = "o" if width >= 1.5 else ""
    axes.plot(
        [_x(entry.sparsity) for entry in curve],
        [_percent(entry) for entry in curve],
        marker=marker,
        ms=3.5,
        c=colour,
        lw=width,
        zorder=1 + width,
    )


def _band(axes: Axes, curve: Sequence[Entry], colour: str) -> None:
    sure = [entry for entry in curve if entry.accuracy and math.isfinite(entry.accuracy.low)]
    axes.fill_between(
        [_x(entry.sparsity) for entry in sure],
        [100 * entry.accuracy.low for entry in sure if entry.accuracy],
        [100 * entry.accuracy.high for entry in sure if entry.accuracy],
        color=colour,
        alpha=0.18,
        lw=0,
    )


def _dense(axes: Axes, problem: ProblemSummary, *, label: bool) -> None:
    if problem.dense is None or problem.dense.accuracy is None:
        return
    level = 100 * problem.dense.accuracy.mean
    axes.axhline(level, color=DENSE, lw=1, ls="--")
    if label:
        axes.annotate(
            "dense", (_x(problem.sparsities[0]), level), xytext=(0, 3),
            textcoords="offset points", color=DENSE, fontsize=9,
        )  # fmt: skip


def _axes(axes: Axes, problem: ProblemSummary, low: float, high: float) -> None:
    ticks = [_x(sparsity) for sparsity in problem.sparsities]
    axes.set_xticks(ticks, [f"{100 * sparsity:g}" for sparsity in problem.sparsities])
    axes.set_ylim(low, high)


def limits(problem: ProblemSummary) -> tuple[float, float]:
    """Return an axis with the better half of the methods, and the best one whole.

    Other lines may leave it downwards.
    """
    values = [_percent(e) for e in problem.entries.values() if e.accuracy]
    dense = problem.dense.accuracy if problem.dense else None
    top = max([*values, 100 * dense.mean if dense else 0.0])
    hardest = [
        _percent(e)
        for (_, sparsity), e in problem.entries.items()
        if sparsity == problem.sparsities[-1] and e.accuracy
    ]
    middle = median(hardest) if hardest else top
    low = min(max(middle - 2.0, top - 30.0), top - 5.0, max(hardest, default=top) - 2.0)
    return low, top + 0.06 * (top - low)
