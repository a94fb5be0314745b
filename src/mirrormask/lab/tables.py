"""The tables of claims and findings, as CSV for machines and Markdown for the documentation."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from mirrormask.lab.checks.check import Result
from mirrormask.lab.figures.figure import Figure


def claims_csv(results: Sequence[Result]) -> str:
    """Return the claims as CSV.

    Example:
        >>> claims_csv([]).split(",")[:2]
        ['claim', 'statement']
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = "claim,statement,oracle,measured,sense,tolerance,passed,changed,then"
    writer.writerow(columns.split(","))
    for r in results:
        c = r.check
        value, altered = f"{r.value:.6g}", f"{r.altered:.6g}"
        bound = (c.sense, f"{c.tolerance:g}", r.passed)
        writer.writerow([c.number, c.statement, c.oracle, value, *bound, c.alteration, altered])
    return text.getvalue()


def claims_markdown(results: Sequence[Result]) -> str:
    """Return the claims as a Markdown table.

    Example:
        >>> print(claims_markdown([]).splitlines()[0])
        | no. | claim | against | measured | tolerance | | constant changed | then |
    """
    rows = []
    for r in results:
        c = r.check
        sign = "≤" if c.sense == "at most" else "≥"
        cells = (
            c.number,
            c.statement,
            c.oracle,
            f"{r.value:.3g}",
            f"{sign} {c.tolerance:.3g}",
            "pass" if r.passed else "**FAIL**",
            c.alteration,
            f"{r.altered:.3g}",
        )
        rows.append(cells)
    head = ("no.", "claim", "against", "measured", "tolerance", "", "constant changed", "then")
    return _table(head, rows)


def findings_markdown(figures: Sequence[Figure]) -> str:
    """Return the findings of all figures as a Markdown table.

    Example:
        >>> print(findings_markdown([]).splitlines()[0])
        | figure | finding | reproduced | numbers (mean ± 95 % over seeds) |
    """
    rows = [
        (figure.title, f.text, "yes" if f.holds else "**no**", f.numbers)
        for figure in figures
        for f in figure.findings
    ]
    return _table(("figure", "finding", "reproduced", "numbers (mean ± 95 % over seeds)"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        # A bar inside a cell would end it.
        inside = " | ".join(cell.replace("|", "\\|") for cell in cells)
        return f"| {inside} |".replace("|  |", "| |")

    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)]) + "\n"
