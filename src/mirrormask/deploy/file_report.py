"""The table that says what a packed file holds and how much room it saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirrormask.deploy.extras import optional
from mirrormask.deploy.manifest import Entry, Table

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@dataclass(frozen=True, kw_only=True)
class FileRow:
    """One tensor: ``dense_bytes`` once loaded, ``stored_bytes`` in the file without the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: str
    values: str
    sparsity: float
    dense_bytes: int
    stored_bytes: int


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """What a packed file holds.

    ``dense_bytes`` is the size of the tensors once loaded, each tied tensor counted once;
    ``file_bytes`` is the whole file, header included.
    """

    path: str
    rows: tuple[FileRow, ...]
    dense_bytes: int
    file_bytes: int

    @property
    def ratio(self) -> float:
        """How many times smaller the file is than its tensors."""
        return self.dense_bytes / self.file_bytes

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "ratio": self.ratio}

    def __str__(self) -> str:
        lines = [
            f"{row.name}: {row.layout}, {row.sparsity:.2%} zeros, "
            f"{row.dense_bytes:,} -> {row.stored_bytes:,} bytes"
            for row in self.rows
        ]
        total = f"{self.dense_bytes:,} -> {self.file_bytes:,} bytes, {self.ratio:.2f}x smaller"
        return "\n".join([*lines, total])

    def table(self) -> RichTable:
        """Return a table for rich to print."""
        table: RichTable = optional("rich.table", "a table").Table(
            title=Path(self.path).name, caption=str(self).splitlines()[-1]
        )
        # Where the terminal is narrow, names go on in a second line: cut off they name nothing.
        for heading in ("tensor", "type", "shape", "layout"):
            table.add_column(heading, overflow="fold", no_wrap=heading == "type")
        for heading in ("zeros", "dense bytes", "stored bytes"):
            table.add_column(heading, justify="right")
        for row in self.rows:
            table.add_row(
                row.name,
                row.dtype,
                "x".join(str(size) for size in row.shape) or "scalar",
                row.layout if row.values == "exact" else f"{row.layout}, {row.values}",
                f"{row.sparsity:.2%}",
                f"{row.dense_bytes:,}",
                f"{row.stored_bytes:,}",
            )
        return table


def report_of_table(
    path: str | Path, table: Table, part_bytes: Mapping[str, int], file_bytes: int
) -> FileReport:
    """Build the report of a file from its table of contents and its parts' sizes."""
    rows = []
    for name, stored in table.items():
        entry = stored if isinstance(stored, Entry) else table[stored]
        assert isinstance(entry, Entry)
        tied = not isinstance(stored, Entry)
        words = max(entry.length, 1)
        rows.append(
            FileRow(
                name=name,
                dtype=entry.dtype,
                shape=entry.shape,
                layout=f"tied to {stored}" if tied else entry.layout,
                values=entry.values,
                sparsity=1.0 - entry.nonzeros / words if entry.length else 0.0,
                dense_bytes=0 if tied else entry.dense_bytes,
                stored_bytes=0
                if tied
                else sum(part_bytes[part] for part in entry.expected_parts()),
            )
        )
    return FileReport(
        path=str(path),
        rows=tuple(rows),
        dense_bytes=sum(row.dense_bytes for row in rows),
        file_bytes=file_bytes,
    )
