"""What a benchmark found: a row per contender, batch size and thread count; table and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirrormask.deploy.extras import optional
from mirrormask.deploy.rivals import Kind
from mirrormask.deploy.timing import Ratio
from mirrormask.errors import OutputError
from mirrormask.files.paths import path_of

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class BenchRow:
    """One contender at one batch size and thread count.

    ``milliseconds`` is the median of a call. ``gain`` is how many times faster it is than the best
    dense fp32 runtime of the same run: median and quartiles of interleaved ratios.
    ``output_error`` is the largest difference to eager torch over its largest output.
    """

    batch: int
    threads: int
    contender: str
    kind: Kind
    milliseconds: float
    gain: Ratio
    best_dense: str
    weight_bytes: int
    output_error: float
    accuracy: float | None
    note: str


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """All rows, what was left out and why, and the machine it ran on."""

    rows: tuple[BenchRow, ...]
    missing: Mapping[str, str]
    sparsity: float
    machine: Mapping[str, str]

    def row(self, contender: str, *, batch: int, threads: int = 1) -> BenchRow:
        """Return one row by name; raises KeyError if it was not measured."""
        for row in self.rows:
            if (row.contender, row.batch, row.threads) == (contender, batch, threads):
                return row
        raise KeyError(f"no row for {contender!r} at batch {batch}, {threads} threads")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    def save_json(self, path: str | Path) -> None:
        """Write everything as JSON.

        Raises:
            OutputError: The file cannot be written.
        """
        try:
            path_of(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{path} cannot be written ({error}): choose another file") from error

    def table(self) -> Table:
        """Return a table for rich to print."""
        with_accuracy = any(row.accuracy is not None for row in self.rows)
        title = f"{self.sparsity:.1%} zeros, {self.machine['cpu']}, torch {self.machine['torch']}"
        table: Table = optional("rich.table", "a table").Table(title=title, caption=self._caption())
        headings = ["batch", "threads", "ms", "against best dense", "bytes", "output error"]
        headings += ["accuracy"] if with_accuracy else []
        table.add_column("runtime")
        for heading in headings:
            table.add_column(heading, justify="right")
        table.add_column("note")
        for row in self.rows:
            cells = [
                str(row.batch),
                str(row.threads),
                f"{row.milliseconds:.3f}",
                f"{row.gain.median:.2f}x ({row.gain.low:.2f}-{row.gain.high:.2f})",
                f"{row.weight_bytes:,}",
                f"{row.output_error:.1e}",
            ]
            if with_accuracy:
                cells.append("" if row.accuracy is None else f"{row.accuracy:.2%}")
            style = "bold" if row.kind == "ours" else None
            table.add_row(row.contender, *cells, row.note, style=style)
        return table

    def _caption(self) -> str:
        left_out = [f"{name} left out: {why}" for name, why in self.missing.items()]
        return "\n".join([*left_out, "ratios are medians (quartiles) of interleaved runs"])

    def save_picture(self, path: str | Path) -> None:
        """Draw milliseconds per contender and batch size as bars, logarithmic; png, svg or pdf.

        Raises:
            MissingExtraError: matplotlib is not installed.
            OutputError: The file cannot be written.
        """
        from mirrormask.deploy.bench_picture import draw  # noqa: PLC0415

        draw(self, path_of(path))
