"""One picture of a benchmark: how long a call takes in each runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mirrormask.deploy.extras import optional
from mirrormask.errors import OutputError

if TYPE_CHECKING:
    from mirrormask.deploy.bench_report import BenchReport

_COLOURS = {"dense": "#9aa5b1", "int8": "#d9a441", "ours": "#2f6f4f"}


def draw(report: BenchReport, path: Path) -> None:
    """Write the picture; see :meth:`BenchReport.save_picture`."""
    figures = optional("matplotlib.figure", "the picture")
    groups = list(dict.fromkeys((row.batch, row.threads) for row in report.rows))
    figure = figures.Figure(figsize=(max(4.0, 3.2 * len(groups)), 3.8), layout="constrained")
    names: list[str] = []
    for number, (batch, threads) in enumerate(groups, start=1):
        rows = [row for row in report.rows if (row.batch, row.threads) == (batch, threads)]
        axes = figure.add_subplot(1, len(groups), number)
        bars = axes.barh(
            [row.contender for row in rows],
            [row.milliseconds for row in rows],
            color=[_COLOURS[row.kind] for row in rows],
        )
        axes.bar_label(bars, [f" {row.gain.median:.2f}x" for row in rows], fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.25)
        axes.set_title(f"batch {batch}, {threads} thread{'s' if threads > 1 else ''}", fontsize=10)
        axes.set_xlabel("ms a call (x: against best dense)", fontsize=8)
        axes.tick_params(labelsize=8)
        if [row.contender for row in rows] == names:
            axes.set_yticklabels([])
        names = [row.contender for row in rows]
    figure.suptitle(f"{report.sparsity:.1%} zeros, {report.machine['cpu']}", fontsize=10)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be drawn ({error}): name a .png, .svg or .pdf") from error
