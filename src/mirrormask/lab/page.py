"""The theory page: one self-contained HTML file, the figures as SVG, their numbers as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

import mirrormask
from mirrormask.errors import OutputError
from mirrormask.lab.checks.check import Result
from mirrormask.lab.figures.figure import Figure, Settings

PAGE = "theory.html"


def prepare(out: Path) -> None:
    """Make the output folder and see that it can be written, before anything is computed.

    Raises:
        OutputError: If it cannot.

    Example:
        >>> import tempfile
        >>> prepare(Path(tempfile.mkdtemp()) / "theory")
    """
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
        probe = out / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"The folder {str(out)!r} cannot be written ({error.strerror}): choose another with "
            "--out."
        ) from error


def render(
    figures: Sequence[Figure], results: Sequence[Result], settings: Settings, seconds: float
) -> str:
    """Return the page.

    Args:
        figures: The figures, in reading order.
        results: The measured claims; none to leave out the table.
        settings: Size of the study.
        seconds: Time that it all took.

    Example:
        >>> "<h1>The theory, recomputed</h1>" in render([], [], Settings(), 1.0)
        True
    """
    environment = Environment(
        loader=PackageLoader("mirrormask.lab"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
    )
    return environment.get_template("theory.html.j2").render(
        figures=figures,
        results=results,
        passed=sum(result.passed for result in results),
        settings=settings,
        seconds=seconds,
        version=mirrormask.__version__,
    )


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


def write(
    out: Path,
    figures: Sequence[Figure],
    results: Sequence[Result],
    settings: Settings,
    *,
    seconds: float,
) -> Path:
    """Write page, drawings and numbers; return the path of the page.

    Raises:
        OutputError: If a file cannot be written.
    """
    page = out / PAGE
    try:
        for figure in figures:
            (out / "figures" / f"{figure.name}.svg").write_text(figure.svg, encoding="utf-8")
            (out / "figures" / f"{figure.name}.csv").write_text(figure.csv(), encoding="utf-8")
        if results:
            (out / "claims.csv").write_text(claims_csv(results), encoding="utf-8")
        page.write_text(render(figures, results, settings, seconds), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{str(error.filename)!r} cannot be written ({error.strerror}): choose another folder "
            "with --out."
        ) from error
    return page
