"""The command ``mirrormask theory``; heavy imports wait until it runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from mirrormask.errors import ArgumentError, MissingExtraError

Out = Annotated[Path, typer.Option(help="Folder for the page, the figures and their numbers.")]
Only = Annotated[
    str,
    typer.Option(
        help="Parts to compute, separated by commas: figures by name, or 'claims'. Default: all."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command ``theory`` to an application."""
    app.command("theory")(theory)


def theory(
    out: Out = Path("theory"),
    only: Only = "all",
    seeds: Annotated[int, typer.Option(help="Problems and starts per setting, 2 or more.")] = 5,
    steps: Annotated[int, typer.Option(help="Steps of descent, 100 or more.")] = 50_000,
    epochs: Annotated[int, typer.Option(help="Epochs of the real network, 1 or more.")] = 8,
) -> None:
    """Recompute the theory: measure every claim, draw every figure, write one page."""
    try:
        import torch  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        from mirrormask.lab.claims import CHECKS, measure_claims  # noqa: PLC0415
        from mirrormask.lab.figures.figure import Settings  # noqa: PLC0415
        from mirrormask.lab.figures.gallery import FIGURES, study_for  # noqa: PLC0415
        from mirrormask.lab.page import prepare, write  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            f"The lab needs {error.name}: install it with  pip install 'mirrormask[lab]'"
        ) from error
    settings = Settings(seeds=seeds, steps=steps, epochs=epochs)
    parts = [*FIGURES, "claims"] if only == "all" else [part.strip() for part in only.split(",")]
    unknown = [part for part in parts if part not in FIGURES and part != "claims"]
    if unknown:
        raise ArgumentError(
            f"only={only!r} names {unknown[0]!r}: use claims or some of {', '.join(FIGURES)}."
        )
    prepare(out)
    began = time.perf_counter()
    threads = torch.get_num_threads()
    # The tensors are small: more threads would only wait for one another.
    torch.set_num_threads(1)
    try:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns) as progress:
            claims = len(CHECKS) if "claims" in parts else 0
            drawn = [name for name in FIGURES if name in parts]
            bar = progress.add_task("claims" if claims else "", total=claims + len(drawn))

            def advance(_: object) -> None:
                progress.advance(bar)

            results = measure_claims(advance) if claims else []
            study, figures = study_for(drawn, settings), []
            for name in drawn:
                progress.update(bar, description=f"figure {name}")
                figures.append(FIGURES[name](study, progress.refresh))
                progress.advance(bar)
            progress.update(bar, description="done")
    finally:
        torch.set_num_threads(threads)
    seconds = time.perf_counter() - began
    page = write(out, figures, results, settings, seconds=seconds)
    findings = [finding for figure in figures for finding in figure.findings]
    if results:
        typer.echo(f"claims: {sum(r.passed for r in results)} of {len(results)} hold")
    if findings:
        typer.echo(f"findings: {sum(f.holds for f in findings)} of {len(findings)} reproduced")
    for finding in findings:
        if not finding.holds:
            typer.echo(f"not reproduced: {finding.text} ({finding.numbers})")
    typer.echo(f"page: {page} ({seconds:.0f} s)")
