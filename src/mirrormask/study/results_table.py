"""The table that ends the main job in a terminal."""

from __future__ import annotations

from rich.table import Table

from mirrormask.study.result import TrainResult


def results_table(result: TrainResult) -> Table:
    """Return the two twins side by side: accuracy, exact zeros, time, bytes."""
    table = Table(title="Dense and sparse, the same start, batches and epochs")
    for name in ("network", "test accuracy", "difference", "exact zeros", "training", "file"):
        table.add_column(name, justify="left" if name == "network" else "right")
    for stage in (result.dense, result.sparse):
        table.add_row(
            stage.title,
            f"{100 * stage.test_accuracy:.2f} %",
            f"{result.difference:+.2f} points" if stage is result.sparse else "",
            f"{stage.zeros:,} of {stage.weights:,} ({100 * stage.sparsity:.4g} %)",
            f"{stage.seconds:.0f} s",
            f"{stage.bytes:,} bytes",
        )
    return table
