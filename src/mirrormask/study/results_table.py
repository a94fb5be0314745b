"""The table that ends the main job in a terminal."""

from __future__ import annotations

from rich.table import Table

from mirrormask.study.result import TrainResult


def results_table(result: TrainResult) -> Table:
    """Return the two twins side by side: accuracy, exact zeros, time, bytes."""
    table = Table("", title="The same start, batches and epochs, without and with zeros")
    twins = (result.dense, result.sparse)
    for stage in twins:
        table.add_column(stage.title, justify="right")
    table.add_column("change", justify="right")
    table.add_row(
        "test accuracy",
        *(f"{100 * stage.test_accuracy:.2f} %" for stage in twins),
        f"{result.difference:+.2f} points",
    )
    table.add_row(
        "exact zeros",
        *(f"{stage.zeros:,} of {stage.weights:,}" for stage in twins),
        f"{100 * result.sparse.sparsity:.4g} %",
    )
    seconds = [stage.seconds for stage in twins]
    table.add_row(
        "training", *(f"{taken:.0f} s" for taken in seconds), f"{seconds[1] / seconds[0]:.2f}x"
    )
    packed = result.packed_bytes
    table.add_row(
        "model file",
        f"{result.dense.bytes:,} bytes",
        f"{packed:,} bytes, packed",
        f"{result.dense.bytes / packed:.1f}x smaller",
    )
    return table
