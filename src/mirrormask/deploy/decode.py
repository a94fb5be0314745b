"""Read one tensor back from a packed file: as a dense tensor, or straight into CSR arrays."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from mirrormask.deploy.dtypes import Words, word_numpy, words_of
from mirrormask.deploy.manifest import Entry, index_layout
from mirrormask.errors import CheckpointError
from mirrormask.files.container import Bytes, ContainerReader
from mirrormask.files.index_coding import IndexLayout, Positions, decode_positions


@dataclass(frozen=True, kw_only=True)
class CsrArrays:
    """A matrix in compressed sparse row form with 32-bit indices, shape ``[rows, columns]``."""

    row_starts: torch.Tensor
    columns: torch.Tensor
    values: torch.Tensor
    shape: tuple[int, int]


def check_tensor(reader: ContainerReader, name: str, entry: Entry) -> None:
    """Read and verify a tensor without keeping it.

    Raises:
        CheckpointError: Its bytes are damaged, or its index is no valid index.
    """
    if entry.dtype == "bool":
        arrays = _read_parts(reader, name, entry)
    else:
        # Values need no look: only the indexes are kept while the rest streams by.
        arrays, checksum = [], 0
        for part in entry.expected_parts():
            if part.endswith(("::index", "::negative")):
                arrays.append(reader.read(reader.parts[part]))
                checksum = zlib.crc32(arrays[-1].data, checksum)
            else:
                checksum = reader.checksum(reader.parts[part], checksum)
        _check_sum(reader, name, entry, checksum)
    if entry.layout != "dense":
        for _ in _positions(reader, name, entry, arrays[0]):
            pass
        for _ in _negative_positions(reader, name, entry, arrays):
            pass


def decode_dense(reader: ContainerReader, name: str, entry: Entry) -> torch.Tensor:
    """Return the tensor in its own type and shape.

    Raises:
        CheckpointError: Its bytes are damaged, or its index is no valid index.
    """
    if entry.layout == "dense" and entry.values == "exact":
        return _read_dense(reader, name, entry)
    arrays = _read_parts(reader, name, entry)
    scale = _scale(entry, arrays)
    stored = torch.zeros(entry.shape, dtype=entry.stored_dtype)
    words = words_of(stored)
    if entry.layout == "dense":
        words[:] = arrays[0].view(words.dtype)
    else:
        done = 0
        values = arrays[1].view(words.dtype)
        for positions in _positions(reader, name, entry, arrays[0]):
            words[positions] = values[done : done + positions.size]
            done += positions.size
        for positions in _negative_positions(reader, name, entry, arrays):
            words[positions] = np.iinfo(words.dtype).min
    if scale is not None:
        rows = stored.reshape(entry.shape[0], -1) if stored.numel() else stored
        wide = rows.to(entry.torch_dtype)
        if stored.numel():
            wide *= scale.to(entry.torch_dtype)[:, None]
        return wide.reshape(entry.shape)
    return stored.to(entry.torch_dtype)


def decode_csr(reader: ContainerReader, name: str, entry: Entry) -> CsrArrays:
    """Return a tensor stored sparsely as the CSR matrix ``[shape[0], everything else]``.

    The dense tensor never exists; scratch memory is about a megabyte whatever the size.

    Raises:
        CheckpointError: Its bytes are damaged, or its index is no valid index.
    """
    rows = entry.shape[0]
    width = entry.length // rows if rows else 0
    if entry.layout == "dense" or max(entry.nonzeros, width, rows) >= 2**31:
        raise CheckpointError(f"tensor {name!r} is not stored in a form that gives int32 CSR")
    index, raw, scale = _read_sparse(reader, name, entry)
    values = _to_loaded_type(raw, entry)
    columns = torch.empty(entry.nonzeros, dtype=torch.int32)
    counts = np.zeros(rows + 1, dtype=np.int32)
    done = 0
    for positions in _positions(reader, name, entry, index):
        row, column = np.divmod(positions, width)
        columns.numpy()[done : done + positions.size] = column
        if positions.size:
            first, last = int(row[0]), int(row[-1])
            counts[first + 1 : last + 2] += np.bincount(row - first).astype(np.int32)
            if scale is not None:
                values[done : done + positions.size] *= scale[torch.from_numpy(row)]
        done += positions.size
    return CsrArrays(
        row_starts=torch.from_numpy(np.cumsum(counts, dtype=np.int32)),
        columns=columns,
        values=values,
        shape=(rows, width),
    )


def _read_sparse(
    reader: ContainerReader, name: str, entry: Entry
) -> tuple[Bytes, Bytes, torch.Tensor | None]:
    arrays = _read_parts(reader, name, entry)
    return arrays[0], arrays[1], _scale(entry, arrays)


def _to_loaded_type(raw: Bytes, entry: Entry) -> torch.Tensor:
    """Return the stored values as a tensor of the loaded type; exact ones share memory."""
    kind = word_numpy(entry.stored_dtype)
    return torch.from_numpy(raw.view(kind)).view(entry.stored_dtype).to(entry.torch_dtype)


def _scale(entry: Entry, arrays: list[Bytes]) -> torch.Tensor | None:
    if entry.values != "int8":
        return None
    scale = arrays[1 if entry.layout == "dense" else 2]
    return torch.from_numpy(scale.view(np.float32)).to(entry.torch_dtype)


def _read_dense(reader: ContainerReader, name: str, entry: Entry) -> torch.Tensor:
    tensor = torch.empty(entry.shape, dtype=entry.torch_dtype)
    words = words_of(tensor)
    (part,) = entry.expected_parts()
    raw = words.view(np.uint8)
    reader.read_into(reader.parts[part], raw)
    _check_sum(reader, name, entry, zlib.crc32(raw.data))
    _check_bools(reader, name, entry, words)
    return tensor


def _read_parts(reader: ContainerReader, name: str, entry: Entry) -> list[Bytes]:
    arrays = [reader.read(reader.parts[part]) for part in entry.expected_parts()]
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(array.data, checksum)
    _check_sum(reader, name, entry, checksum)
    values = arrays[0] if entry.layout == "dense" else arrays[1]
    _check_bools(reader, name, entry, values)
    return arrays


def _check_sum(reader: ContainerReader, name: str, entry: Entry, found: int) -> None:
    if found != entry.checksum:
        raise reader.fail(f"is damaged in tensor {name[:80]!r} (checksum)")


def _check_bools(reader: ContainerReader, name: str, entry: Entry, values: Words) -> None:
    # A bool of any other byte than 0 and 1 is undefined behaviour in torch.
    if entry.dtype == "bool" and values.size and int(values.max()) > 1:
        raise reader.fail(f"has impossible truth values in tensor {name[:80]!r}")


def _positions(
    reader: ContainerReader, name: str, entry: Entry, index: Bytes
) -> Iterator[Positions]:
    layout, bits = index_layout(entry), entry.rice_bits
    return _decoded(reader, name, entry, index, layout=layout, rice_bits=bits, count=entry.nonzeros)


def _negative_positions(
    reader: ContainerReader, name: str, entry: Entry, arrays: list[Bytes]
) -> Iterator[Positions]:
    zeros = entry.negative_zeros
    if zeros is None:
        return iter(())
    return _decoded(
        reader,
        name,
        entry,
        arrays[-1],
        layout=zeros.layout,
        rice_bits=zeros.rice_bits,
        count=zeros.count,
    )


def _decoded(
    reader: ContainerReader,
    name: str,
    entry: Entry,
    code: Bytes,
    *,
    layout: IndexLayout,
    rice_bits: int,
    count: int,
) -> Iterator[Positions]:
    try:
        yield from decode_positions(
            layout, code, length=entry.length, count=count, rice_bits=rice_bits
        )
    except CheckpointError as error:
        raise reader.fail(f"is damaged in tensor {name[:80]!r} ({error})") from None
