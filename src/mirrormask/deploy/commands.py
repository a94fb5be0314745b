"""The deployment commands, thin: read the arguments, call the function, print its table.

``mirrormask pack``, ``inspect``, ``bench`` and ``doctor``. This is the one file of this
room that needs typer and rich.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from mirrormask.deploy.bench_report import BenchReport
from mirrormask.deploy.benchmark import BenchOptions, bench
from mirrormask.deploy.doctor import build_kernels, diagnose, findings_table
from mirrormask.deploy.manifest import SignedZeros, Values
from mirrormask.deploy.model_source import open_data, open_model, parse_sizes
from mirrormask.deploy.pack import inspect, pack_file, unpack_file
from mirrormask.deploy.rivals import RUNTIMES


def register(app: typer.Typer) -> None:
    """Add the deployment commands to a typer application."""
    app.command("pack")(pack_command)
    app.command("inspect")(inspect_command)
    app.command("bench")(bench_command)
    app.command("doctor")(doctor_command)


def pack_command(
    source: Annotated[Path, typer.Argument(help="A safetensors file.")],
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    values: Annotated[
        str, typer.Option(help="exact, fp32, fp16, bf16 or int8; all but exact lose precision.")
    ] = "exact",
    signed_zeros: Annotated[
        str, typer.Option(help="keep, or drop the sign of zeros that pruning left negative.")
    ] = "keep",
    *,
    unpack: Annotated[bool, typer.Option("--unpack", help="Go the other way.")] = False,
) -> None:
    """Pack the zeros out of a safetensors file, or unpack it again."""
    if unpack:
        report = unpack_file(source, target)
    else:
        report = pack_file(
            source,
            target,
            values=cast(Values, values),
            signed_zeros=cast(SignedZeros, signed_zeros),
        )
    Console().print(report.table())


def inspect_command(
    path: Annotated[Path, typer.Argument(help="A packed file.")],
) -> None:
    """Show the tensors of a packed file: layout, sparsity, bytes. Every byte is checked."""
    Console().print(inspect(path).table())


def bench_command(
    model: Annotated[
        str, typer.Argument(help="A .pt2 program, or package.module:function that builds a model.")
    ],
    weights: Annotated[
        Path | None, typer.Option(help="Weights for it: a packed or ordinary safetensors file.")
    ] = None,
    example: Annotated[
        str, typer.Option(help="Shape of one input without the batch, for example 1,28,28.")
    ] = "",
    data: Annotated[
        Path | None, typer.Option(help="Accuracy too: a safetensors file of inputs and labels.")
    ] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes.")] = "1,8,64",
    threads: Annotated[str, typer.Option(help="Thread counts.")] = "1",
    runtimes: Annotated[
        str, typer.Option(help=f"Rivals, with commas: {', '.join(RUNTIMES)}; or all.")
    ] = "all",
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.")] = 25,
    json: Annotated[Path | None, typer.Option(help="Write all figures here.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw them here (png, svg, pdf).")] = None,
) -> None:
    """Time a model in every dense runtime at hand against its compiled sparse form."""
    rivals = RUNTIMES if runtimes == "all" else tuple(filter(None, runtimes.split(",")))
    options = BenchOptions(
        batches=parse_sizes("batch", batch),
        threads=parse_sizes("threads", threads),
        runtimes=rivals,
        rounds=rounds,
    )
    net, inputs = open_model(model, weights, example)
    examples = None if data is None else open_data(data)
    write_bench(bench(net, inputs, data=examples, options=options), json, picture)


def write_bench(report: BenchReport, json: Path | None, picture: Path | None) -> None:
    """Print a benchmark's table and write its files where they were asked for."""
    Console().print(report.table())
    if json is not None:
        report.save_json(json)
    if picture is not None:
        report.save_picture(picture)


def doctor_command(
    *,
    build: Annotated[bool, typer.Option("--build", help="Compile the kernels first.")] = False,
) -> None:
    """Tell what makes sparse models fast here, what is missing, and why."""
    if build:
        Console().print(f"compiled {build_kernels()}", soft_wrap=True, highlight=False)
    Console().print(findings_table(diagnose()))
