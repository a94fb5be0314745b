"""What a figure is: a drawing, its numbers, and what was to be found in it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from scipy.stats import t as student

from mirrormask.errors import ArgumentError
from mirrormask.lab.problems import Problems, sparse_problems
from mirrormask.lab.schedules import Array

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444", "#8B6F47")
"""Okabe and Ito's colours, told apart by everyone."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mirrormask",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.4,
}

Tick = Callable[[], object]
"""Called as work goes on, for a progress bar."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Size of the study; the defaults are the paper's.

    Args:
        seeds: Problems, starts and runs per setting.
        steps: Steps of descent.
        lr: Step size.
        samples: Measurements per problem.
        features: Weights per problem.
        nonzeros: Nonzeros of the truth.
        epochs: Epochs of the run of a real network.
    """

    seeds: int = 5
    steps: int = 50_000
    lr: float = 1e-4
    samples: int = 40
    features: int = 100
    nonzeros: int = 5
    epochs: int = 8

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ArgumentError(f"seeds={self.seeds} gives no interval: use at least 2.")
        if self.steps < 100 or self.epochs < 1 or not 0 < self.lr < 1:
            raise ArgumentError(
                f"steps={self.steps}, epochs={self.epochs}, lr={self.lr} make no study: use at "
                "least 100 steps, one epoch, and a step size between 0 and 1."
            )

    @property
    def time(self) -> float:
        """Return the time that the descent covers."""
        return self.steps * self.lr

    def problems(self) -> Problems:
        """Return the regression problems of the study."""
        return sparse_problems(
            seeds=self.seeds,
            samples=self.samples,
            features=self.features,
            nonzeros=self.nonzeros,
        )


@dataclass(frozen=True)
class Finding:
    """A statement, whether these runs bear it out, and the numbers."""

    text: str
    holds: bool
    numbers: str


Row = tuple[str | float | int, ...]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing with its numbers.

    Attributes:
        name: File name without ending.
        title: Headline.
        caption: What is drawn and how to read it.
        svg: The drawing, one ``<svg>`` element.
        columns: Names of the columns of the table.
        rows: The numbers behind the drawing.
        findings: What the drawing was made to show.
    """

    name: str
    title: str
    caption: str
    svg: str
    columns: tuple[str, ...]
    rows: Sequence[Row]
    findings: tuple[Finding, ...]

    def csv(self) -> str:
        """Return the numbers as CSV, numbers with 6 significant digits."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        for row in self.rows:
            writer.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in row)
        return text.getvalue()


def canvas(columns: int = 1, height: float = 3.2) -> tuple[Canvas, list[Axes]]:
    """Return a drawing of panels side by side."""
    with matplotlib.rc_context(STYLE):
        drawing = Canvas(figsize=(4.6 * columns if columns > 1 else 6.4, height))
        drawing.set_layout_engine("constrained")
        panels = drawing.subplots(1, columns, squeeze=False)[0]
    return drawing, list(panels)


def legend_below(drawing: Canvas, axes: Axes, columns: int) -> None:
    """Put the legend of one panel below all panels, where it hides nothing."""
    with matplotlib.rc_context(STYLE):
        handles, labels = axes.get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def to_svg(drawing: Canvas, name: str) -> str:
    """Return the drawing as one ``<svg>`` element whose ids are its own."""
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        drawing.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    # Several drawings share one page, so their ids must not meet.
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    return re.sub(r'href="#', f'href="#{name}-', svg)


def interval(values: Array, axis: int = -1) -> tuple[Array, Array, Array]:
    """Return mean, lower and upper end of the 95 % t-interval along ``axis``.

    Example:
        >>> [float(v) for v in interval(np.array([1.0, 1.0, 1.0]))]
        [1.0, 1.0, 1.0]
    """
    count = values.shape[axis]
    mean = values.mean(axis=axis)
    half = student.ppf(0.975, count - 1) * values.std(axis=axis, ddof=1) / np.sqrt(count)
    return mean, mean - half, mean + half


def band(
    axes: Axes,
    x: Array,
    values: Array,
    *,
    label: str,
    colour: str,
    line: str = "-",
    shade: float = 0.13,
) -> None:
    """Draw the mean over the last axis with its 95 % interval, both taken of the logarithm."""
    mean, low, high = (np.exp(v) for v in interval(np.log(np.maximum(values, 1e-12))))
    axes.plot(x, mean, line, color=colour, label=label)
    axes.fill_between(x, low, high, color=colour, alpha=shade, linewidth=0)


def said(values: Array) -> str:
    """Return ``mean ± half-width`` of the 95 % interval in words.

    Example:
        >>> said(np.array([0.5, 0.7]))
        '0.6 ± 1.27'
    """
    mean, low, _ = interval(values)
    return f"{float(mean):.3g} ± {float(mean - low):.3g}"
