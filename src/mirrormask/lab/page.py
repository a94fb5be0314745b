"""The theory page: one self-contained HTML file, the figures as SVG, their numbers as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

import mirrormask
from mirrormask.errors import OutputError
from mirrormask.lab.checks.check import Result
from mirrormask.lab.figures.figure import Figure, Settings
from mirrormask.lab.tables import claims_csv, claims_markdown, findings_markdown

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
            (out / "claims.md").write_text(claims_markdown(results), encoding="utf-8")
        if figures:
            (out / "findings.md").write_text(findings_markdown(figures), encoding="utf-8")
        page.write_text(render(figures, results, settings, seconds), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{str(error.filename)!r} cannot be written ({error.strerror}): choose another folder "
            "with --out."
        ) from error
    return page
