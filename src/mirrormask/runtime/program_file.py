"""Write a planned network to one safetensors file, and read it back without torch.

Weights are kept as in packed models: values, and a short code for where they are. Whatever a file
says is checked: its parts against a table of contents with checksums, the steps by the kernels.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mirrormask.errors import ArgumentError, CheckpointError
from mirrormask.files.container import ContainerReader, NewPart, is_size_list, write_container
from mirrormask.files.index_coding import (
    INDEX_LAYOUTS,
    decode_positions,
    encode_positions,
    index_choices,
)
from mirrormask.runtime.description import Description, Ints, Matrix, Port
from mirrormask.runtime.program import Program
from mirrormask.runtime.steps import FIELDS

VERSION = 2
_KEY, _CHECKSUM_KEY = "mirrormask_program", "mirrormask_program_crc32"
# A matrix may have so many rows for each byte of its file: a small file cannot ask for all memory.
_MOST_ROWS = 2048
_TYPES = {"I64": np.int64, "I32": np.int32, "F32": np.float32, "U8": np.uint8}


def write_program(path: str | Path, description: Description) -> int:
    """Write a planned network, whole or not at all, and return the bytes of the file.

    Raises:
        OutputError: The file cannot be written there.
    """
    parts = [
        _part("steps", "I64", description.steps),
        _part("constants", "F32", description.constants),
        _part("masks", "I32", description.masks),
    ]
    matrices: list[dict[str, Any]] = []
    for index, matrix in enumerate(description.matrices):
        entry, code = _encoded(matrix)
        matrices.append(entry)
        parts += [
            _part(f"{index}.index", "U8", code),
            _part(f"{index}.places", "I32", matrix.places),
        ]
    table = {
        "version": VERSION,
        "arena": description.arena,
        "inputs": [[port.name, list(port.shape)] for port in description.inputs],
        "outputs": [[port.name, list(port.shape)] for port in description.outputs],
        "labels": list(description.labels),
        "matrices": matrices,
        "crc32": {part.name: zlib.crc32(part.data.view(np.uint8).data) for part in parts},
    }
    text = json.dumps(table, separators=(",", ":"))
    metadata = {_KEY: text, _CHECKSUM_KEY: f"{zlib.crc32(text.encode()):08x}"}
    return write_container(path, parts, metadata)


def load(path: str | Path) -> Program:
    """Read a file that :func:`mirrormask.deploy.save_program` wrote, ready to run.

    Neither this nor running the program imports torch.

    Raises:
        DataError: The file cannot be read.
        CheckpointError: It is damaged, no program, or of a newer version.
        MissingExtraError: There are no compiled kernels here.
    """
    with ContainerReader(path) as reader:
        description = _Reading(reader).description()
        try:
            return Program(description)
        except ArgumentError:
            raise reader.fail("holds steps that would leave their memory") from None


def _part(name: str, kind: str, array: npt.NDArray[Any]) -> NewPart:
    flat = np.ascontiguousarray(array, dtype=_TYPES[kind]).reshape(-1)
    return NewPart(name=name, dtype=kind, shape=flat.shape, data=flat)


def _encoded(matrix: Matrix) -> tuple[dict[str, Any], npt.NDArray[np.uint8]]:
    rows, width = matrix.starts.size - 1, matrix.places.size
    row_of = np.repeat(np.arange(rows, dtype=np.int64), np.diff(matrix.starts))
    positions = row_of * width + matrix.columns
    choice = index_choices(positions, rows * width)[0]
    entry = {"rows": rows, "nonzeros": positions.size, "layout": choice.layout}
    return {**entry, "rice_bits": choice.rice_bits}, encode_positions(
        positions, rows * width, choice
    )


class _Reading:
    """One file on its way into memory."""

    def __init__(self, reader: ContainerReader) -> None:
        self.reader = reader
        self.table = self._table()

    def description(self) -> Description:
        """Return the network that the file holds."""
        table = self.table
        steps = self._array("steps", "I64")
        labels = table.get("labels")
        inputs, outputs = self._ports("inputs"), self._ports("outputs")
        if steps.size % FIELDS or not isinstance(labels, list):
            raise self._damaged()
        if len(labels) != steps.size // FIELDS or not all(isinstance(x, str) for x in labels):
            raise self._damaged()
        if not is_size_list([table.get("arena")]) or not isinstance(table.get("matrices"), list):
            raise self._damaged()
        description = Description(
            steps=steps.reshape(-1, FIELDS),
            constants=self._array("constants", "F32"),
            masks=self._array("masks", "I32"),
            matrices=tuple(self._matrix(i, entry) for i, entry in enumerate(table["matrices"])),
            inputs=inputs,
            outputs=outputs,
            arena=table["arena"],
            labels=tuple(labels),
        )
        expected = {"steps", "constants", "masks"}
        for index in range(len(description.matrices)):
            expected |= {f"{index}.index", f"{index}.places"}
        if set(self.reader.parts) != expected:
            raise self.reader.fail("has parts that belong to no step")
        return description

    def _table(self) -> dict[str, Any]:
        text = self.reader.metadata.get(_KEY)
        if text is None:
            raise self.reader.fail("is no program; mirrormask.deploy.save_program makes one")
        found = f"{zlib.crc32(text.encode('utf-8', 'replace')):08x}"
        if self.reader.metadata.get(_CHECKSUM_KEY) != found:
            raise self.reader.fail("has a damaged table of contents (checksum)")
        try:
            table = json.loads(text)
        except (ValueError, RecursionError):
            raise self._damaged() from None
        version = table.get("version") if isinstance(table, dict) else None
        if type(version) is not int or version < 1 or not isinstance(table.get("crc32"), dict):
            raise self._damaged()
        if version > VERSION:
            raise self.reader.fail(
                f"holds a program of version {version}, newer than {VERSION}, which this "
                "mirrormask runs; update mirrormask or"
            )
        return table  # type: ignore[no-any-return]

    def _array(self, name: str, kind: str) -> npt.NDArray[Any]:
        part = self.reader.parts.get(name)
        if part is None or part.dtype != kind or len(part.shape) != 1:
            raise self.reader.fail(f"lacks the part {name!r}, or has it in another type")
        raw = self.reader.read(part)
        if zlib.crc32(raw.data) != self.table["crc32"].get(name):
            raise self.reader.fail(f"is damaged in part {name!r} (checksum)")
        return raw.view(_TYPES[kind])

    def _ports(self, key: str) -> tuple[Port, ...]:
        rows = self.table.get(key)
        if not isinstance(rows, list) or not 1 <= len(rows) <= 64:
            raise self._damaged()
        ports = []
        for row in rows:
            if not isinstance(row, list) or len(row) != 2 or not isinstance(row[0], str):
                raise self._damaged()
            if not is_size_list(row[1]) or not row[1] or 0 in row[1] or _product(row[1]) >= 2**31:
                raise self._damaged()
            ports.append(Port(name=row[0], shape=tuple(row[1])))
        return tuple(ports)

    def _matrix(self, index: int, entry: Any) -> Matrix:
        if not isinstance(entry, dict) or entry.get("layout") not in INDEX_LAYOUTS:
            raise self._damaged()
        rows, nonzeros, bits = (entry.get(key) for key in ("rows", "nonzeros", "rice_bits"))
        if not is_size_list([rows, nonzeros, bits]):
            raise self._damaged()
        assert isinstance(rows, int) and isinstance(nonzeros, int) and isinstance(bits, int)
        places = self._array(f"{index}.places", "I32")
        code = self._array(f"{index}.index", "U8")
        if rows > _MOST_ROWS * self.reader.size or nonzeros > _MOST_ROWS * self.reader.size:
            raise self._damaged()
        if max(rows, nonzeros) >= 2**31 or not rows or not places.size:
            raise self._damaged()
        starts, columns = np.zeros(rows + 1, dtype=np.int32), np.empty(nonzeros, dtype=np.int32)
        done, length = 0, rows * places.size
        try:
            for positions in decode_positions(
                entry["layout"], code, length=length, count=nonzeros, rice_bits=bits
            ):
                row, column = np.divmod(positions, places.size)
                columns[done : done + positions.size] = column
                _count(row, starts)
                done += positions.size
        except CheckpointError as error:
            raise self.reader.fail(f"is damaged in matrix {index} ({error})") from None
        return Matrix(starts=np.cumsum(starts, dtype=np.int32), columns=columns, places=places)

    def _damaged(self) -> CheckpointError:
        return self.reader.fail("has a damaged table of contents")


def _count(rows: npt.NDArray[np.int64], starts: Ints) -> None:
    """Add how many of ``rows``, which increase, are each row, one place further."""
    if rows.size:
        first, last = int(rows[0]), int(rows[-1])
        starts[first + 1 : last + 2] += np.bincount(rows - first).astype(np.int32)


def _product(sizes: list[int]) -> int:
    found = 1
    for size in sizes:
        found *= size
    return found
