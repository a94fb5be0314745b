"""The commands of the study room: ``train`` and ``methods``; heavy imports wait until they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import mirrormask as mm
from mirrormask.deploy.model_source import parse_sizes
from mirrormask.errors import ArgumentError
from mirrormask.study.compare import commands as compare
from mirrormask.study.data import DATASETS
from mirrormask.study.models import MODELS
from mirrormask.study.settings import TrainSettings

DEFAULTS = TrainSettings()


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    app.command("train")(train)
    app.command("methods")(methods)
    compare.register(app)


def methods() -> None:
    """List the methods that --method takes, with the knobs that comparisons tune."""
    from mirrormask.study.methods_table import methods_table

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a log has no width of its own
    console.print(methods_table(mm.METHODS.values()))


def train(
    context: typer.Context,
    data: Annotated[str, typer.Option(help=f"{', '.join(DATASETS)}.")] = DEFAULTS.data,
    data_root: Annotated[
        str | None, typer.Option(help="Folder or file of a data set that is not packaged.")
    ] = DEFAULTS.data_root,
    model: Annotated[str, typer.Option(help=f"{', '.join(MODELS)}.")] = DEFAULTS.model,
    method: Annotated[str, typer.Option(help="See: mirrormask methods.")] = DEFAULTS.method,
    sparsity: Annotated[
        float, typer.Option(help="Fraction of zeros, in [0, 1).")
    ] = DEFAULTS.sparsity,
    epochs: Annotated[
        int, typer.Option(help="Epochs of each of the two networks.")
    ] = DEFAULTS.epochs,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = DEFAULTS.lr,
    batch_size: Annotated[int, typer.Option(help="Images in a step.")] = DEFAULTS.batch_size,
    seed: Annotated[int, typer.Option(help="Of initial weights and batches.")] = DEFAULTS.seed,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = DEFAULTS.threads,
    bench: Annotated[
        str, typer.Option(help="Batch sizes to time the result at, such as 1,64; none by default.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; a new one under runs/ by default.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, with its settings.")
    ] = False,
) -> None:
    """Train a dense network and its sparse twin, and write a report page.

    Under torchrun all ranks train together: torchrun --nproc-per-node 2 -m mirrormask train ...
    """
    from mirrormask.study.launch import joined
    from mirrormask.study.results_table import results_table
    from mirrormask.study.run_folder import new_run_folder, read_config
    from mirrormask.study.train import time_result
    from mirrormask.study.train import train as run_training

    given = {
        "data": data,
        "data_root": data_root,
        "model": model,
        "method": method,
        "sparsity": sparsity,
        "epochs": epochs,
        "lr": lr,
        "batch_size": batch_size,
        "seed": seed,
        "threads": threads,
    }
    if resume:
        if out is None:
            raise ArgumentError("--resume needs the folder of the run: add --out FOLDER.")
        given = read_config(out) | _on_command_line(context, given)
        given.pop("mirrormask", None)
    settings = TrainSettings.from_config(given)
    batches = parse_sizes("bench", bench) if bench else ()
    with joined() as ranks:
        folder = ranks.gather(out or new_run_folder(Path("runs"), settings.name))[0]
        # A log has no width of its own; and one rank of several speaks for all.
        width = None if Console().is_terminal else 140
        console = Console(width=width, quiet=ranks.rank > 0)
        console.print(f"Run folder: {folder}")
        result = run_training(settings, folder, resume=resume)
        console.print(results_table(result))
        if batches and ranks.rank == 0:
            console.print(time_result(settings, result, batches).table())
        console.print(f"{result.verdict}\nPage: {folder / 'report.html'}")


def _on_command_line(context: typer.Context, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were typed, not those left at their defaults."""
    return {
        name: value
        for name, value in options.items()
        if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"
    }
