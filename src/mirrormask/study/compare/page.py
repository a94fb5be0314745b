"""The page of a comparison, drawn from its raw runs alone: one file without script or network."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import mirrormask as mm
from mirrormask.study.compare import figures
from mirrormask.study.compare.records import Records
from mirrormask.study.compare.statistics import LEVEL, Difference, Estimate, Winner
from mirrormask.study.compare.summary import Entry, ProblemSummary, Summary, summarise
from mirrormask.study.run_folder import write_text

PAGE = "report.html"


def write_page(path: Path, records: Records) -> Summary:
    """Write the page of a comparison, finished or not.

    Args:
        path: Of the HTML file.
        records: All raw runs.

    Returns:
        What the page shows, as numbers.

    Raises:
        OutputError: If the file cannot be written.
    """
    summary = summarise(records)
    environment = Environment(
        loader=PackageLoader("mirrormask.study.compare"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = [problem for problem in summary.problems if problem.winners]
    page = environment.get_template("compare.html").render(
        summary=summary,
        problems=drawn,
        reference=summary.reference,
        settings=records.settings,
        config=json.dumps(records.settings, indent=2),
        done=len(records.runs),
        planned=records.planned,
        # Our own SVG, built from numbers and names that matplotlib has escaped.
        figures={problem.name: _pictures(problem, summary.reference) for problem in drawn},
        version=mm.__version__,
        level=round(100 * LEVEL),
        percent=_percent,
        points=_points,
        shade=_shade,
        share_of_dense=_share_of_dense,
        number=_number,
        megabytes=_megabytes,
        verdict=verdict,
        costs=_costs,
    )
    write_text(path, page)
    return summary


def _pictures(problem: ProblemSummary, reference: str) -> dict[str, Markup]:
    return {
        "overview": Markup(figures.overview(problem, reference)),
        "multiples": Markup(figures.multiples(problem, reference)),
        "flops": Markup(figures.against_flops(problem, reference)),
    }


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def _points(estimate: Estimate) -> str:
    """Write a difference of accuracies with its interval, in points."""
    ends = (estimate.mean, estimate.low, estimate.high)
    mean, low, high = (f"{100 * value:+.2f}".replace("-", "−") for value in ends)
    return mean if math.isnan(estimate.low) else f"{mean} [{low}, {high}]"


def _shade(difference: Difference | None) -> str:
    """Name the class of a cell: told above the reference, told below it, or neither."""
    if difference is None or not difference.differs:
        return ""
    return "above" if difference.estimate.mean > 0 else "below"


def _share_of_dense(value: float, problem: ProblemSummary, what: str) -> str:
    dense = getattr(problem.dense, what) if problem.dense else 0.0
    return f"({value / dense:.2f}x)" if dense and math.isfinite(value) else ""


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "–"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:.1f} MB" if math.isfinite(value) else "–"


def _costs(problem: ProblemSummary) -> list[Entry]:
    """Return dense training, and every method at the highest sparsity."""
    rows = [
        problem.dense,
        *(problem.entries.get((m, problem.sparsities[-1])) for m in problem.methods),
    ]
    return [row for row in rows if row is not None and math.isfinite(row.seconds)]


def verdict(summary: Summary) -> str:
    """Say in two sentences who wins where."""
    reference = summary.reference
    winners: list[Winner] = [w for p in summary.problems for w in p.winners.values()]
    if not winners:
        return "No point is complete yet."
    first = sum(winner.name == reference for winner in winners)
    tied = sum(reference in winner.tied for winner in winners)
    counts: dict[str, Any] = {}
    for winner in winners:
        counts[winner.name] = counts.get(winner.name, 0) + 1
    others = ", ".join(f"{name} {n}" for name, n in sorted(counts.items(), key=lambda x: -x[1]))
    return (
        f"Highest mean accuracy at {len(winners)} points: {others}. {reference} is first at "
        f"{first}, cannot be told from the first at {tied} more, and is below it at "
        f"{len(winners) - first - tied}."
    )
