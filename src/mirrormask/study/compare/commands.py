"""The command ``compare``; heavy imports wait until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mirrormask.errors import ArgumentError


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("compare")(compare)


def compare(
    settings: Annotated[
        Path | None, typer.Option(help="YAML file of what to compare; options replace its entries.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A packaged settings file by its name, in its place.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Data set of the only problem.")] = None,
    data_root: Annotated[
        str | None, typer.Option(help="Folder or file of a data set that is not packaged.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model of the only problem.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of every run.")] = None,
    images: Annotated[
        int | None, typer.Option(help="Training images of every run, evenly from all classes.")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="Such as pilot,gmp; see: mirrormask methods.")
    ] = None,
    sparsities: Annotated[
        str | None, typer.Option(help="Fractions of zeros, such as 0.9,0.99.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Settings tried a method and point.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of final seeds.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="epochs: as many for each method; flops: as much computing.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the comparison.")] = Path("runs/compare"),
    storage: Annotated[
        str | None,
        typer.Option(help="Database URL shared with other machines; a file in --out by default."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes of this command.")] = 1,
    plugin: Annotated[
        Path | None, typer.Option(help="Python file that registers methods of your own.")
    ] = None,
    redo: Annotated[
        str | None, typer.Option(help="Methods whose results so far are thrown away.")
    ] = None,
    patience: Annotated[
        float, typer.Option(help="Seconds without a sign of life until a run is taken over.")
    ] = 40.0,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Print what the comparison will cost, and end.")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Draw the page anew from runs.json in --out.")
    ] = False,
) -> None:
    """Tune methods with equal budgets, run them with paired seeds, and write a page.

    Stop it, kill it, run it again or on several machines with one --storage: it goes on.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)  # a log has no width of its own
    from mirrormask.study.compare.compare import Place
    from mirrormask.study.compare.compare import compare as run_comparison
    from mirrormask.study.compare.cost import print_plan
    from mirrormask.study.compare.options import chosen_settings
    from mirrormask.study.compare.page import PAGE, verdict, write_page
    from mirrormask.study.compare.plugin import load_plugin
    from mirrormask.study.compare.queue import Pulse
    from mirrormask.study.compare.records import RUNS, Records
    from mirrormask.study.compare.table import winners_tables

    if not report_only:
        if workers < 1:
            raise ArgumentError(f"workers={workers} is too few: use at least 1.")
        if plugin is not None:
            load_plugin(plugin)
        options: dict[str, Any] = {
            "data": data,
            "data_root": data_root,
            "model": model,
            "epochs": epochs,
            "images": images,
            "methods": methods,
            "sparsities": sparsities,
            "trials": trials,
            "seeds": seeds,
            "budget": budget,
            "device": device,
        }
        chosen = chosen_settings(settings, recipe, options)
        if recipe is not None or plan_only:
            print_plan(chosen, console, begins=not plan_only)
        if plan_only:
            return
        place = Place(
            folder=out,
            storage=storage,
            workers=workers,
            plugin=plugin,
            pulse=Pulse(beat=patience / 8, patience=patience),
            redo=tuple(redo.split(",")) if redo else (),
        )
        run_comparison(chosen, place, console)
    records = Records.read(out / RUNS)
    summary = write_page(out / PAGE, records)
    for table in winners_tables(summary):
        console.print(table)
    crashed = [failure for failure in summary.failed if failure.outcome == "crashed"]
    if crashed:
        broken = ",".join(sorted({failure.method for failure in crashed}))
        console.print(
            f"{len(crashed)} runs crashed, for reasons that the page tells. Once mended, do them "
            f"again with: --redo {broken}"
        )
    console.print(
        f"{verdict(summary)}\n{len(records.runs)} of {records.planned} runs: {out / RUNS}\n"
        f"Page: {out / PAGE}"
    )
