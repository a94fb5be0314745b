"""Read and write the safetensors container itself, trusting nothing that a file says.

The layout is the public one: 8 bytes with the header's length, a JSON header that gives each
part's type, shape and byte range, then the bytes. Reading goes part by part with ordinary
reads (no memory map), so a damaged file is an exception and never a signal, and what is resident
is what was asked for.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

from mirrormask.errors import CheckpointError, DataError, OutputError
from mirrormask.files.elements import SAFETENSORS_BYTES, numel
from mirrormask.files.paths import path_of

Bytes = npt.NDArray[np.uint8]
MAX_HEADER_BYTES = 16 * 2**20
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Part:
    """Where one stored array lies in a file: type, shape and byte range after the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        """Bytes that the part takes in the file."""
        return self.end - self.begin


@dataclass(frozen=True, kw_only=True)
class NewPart:
    """An array to be written: its bytes, and the type and shape that the header states."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: npt.NDArray[Any]


class ContainerReader:
    """An open, checked safetensors file.

    Raises:
        DataError: The file is missing, unreadable or no regular file.
        CheckpointError: The file is damaged or is not a safetensors file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path_of(path)
        self._file = _open_regular(self.path)
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            header, self._data_start = self._read_header()
            self.metadata = self._check_metadata(header.pop("__metadata__", {}))
            self.parts = self._check_parts(header)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def fail(self, why: str) -> CheckpointError:
        """Return the error for this file, ready to be raised."""
        return CheckpointError(f"{self.path} {why}: write or copy the file again")

    def read_into(self, part: Part, target: Bytes) -> None:
        """Fill ``target``, a flat byte array of exactly the part's size."""
        self._file.seek(self._data_start + part.begin)
        view = target.data
        done = 0
        while done < part.nbytes:
            got = self._file.readinto(view[done : done + _CHUNK_BYTES])  # type: ignore[attr-defined]
            if not got:
                raise self.fail(f"ends inside part {part.name!r}")
            done += got

    def read(self, part: Part) -> Bytes:
        """Return the part's bytes; the size was checked against the file, so it is bounded."""
        target = np.empty(part.nbytes, dtype=np.uint8)
        self.read_into(part, target)
        return target

    def checksum(self, part: Part, start: int) -> int:
        """Return the CRC-32 ``start`` continued over the part's bytes, read in short pieces."""
        self._file.seek(self._data_start + part.begin)
        left = part.nbytes
        while left:
            piece = self._file.read(min(left, _CHUNK_BYTES // 4))
            if not piece:
                raise self.fail(f"ends inside part {part.name!r}")
            start = zlib.crc32(piece, start)
            left -= len(piece)
        return start

    def _read_header(self) -> tuple[dict[str, Any], int]:
        prefix = self._file.read(8)
        if len(prefix) < 8:
            raise self.fail("is too short to be a safetensors file")
        length = int.from_bytes(prefix, "little")
        if length > self.size - 8 or length > MAX_HEADER_BYTES:
            raise self.fail("is not a safetensors file, or it is truncated in its header")
        raw = self._file.read(length)
        if len(raw) < length:
            raise self.fail("is truncated in its header")
        try:
            header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise self.fail(f"has an unreadable header ({type(error).__name__})") from None
        if not isinstance(header, dict):
            raise self.fail("has a header that is not a table of parts")
        return header, 8 + length

    def _check_metadata(self, metadata: object) -> dict[str, str]:
        if not isinstance(metadata, dict) or not all(
            isinstance(value, str) for value in metadata.values()
        ):
            raise self.fail("has metadata that are not plain text")
        return metadata

    def _check_parts(self, header: dict[str, Any]) -> dict[str, Part]:
        parts = [self._check_part(name, entry) for name, entry in header.items()]
        # Ranges must tile the data exactly: no overlap, no hidden bytes, nothing beyond the end.
        position = 0
        for part in sorted(parts, key=lambda part: (part.begin, part.end)):
            if part.begin != position:
                raise self.fail(f"has a part {part.name!r} at an impossible place")
            position = part.end
        if position != self.size - self._data_start:
            raise self.fail("is truncated, or has bytes that no part owns")
        return {part.name: part for part in parts}

    def _check_part(self, name: str, entry: object) -> Part:
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise self.fail(f"has a damaged entry for part {name[:80]!r}")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in SAFETENSORS_BYTES:
            raise self.fail(f"has a part {name[:80]!r} of unknown type {str(dtype)[:20]!r}")
        if not is_size_list(shape) or not is_size_list(offsets) or len(offsets) != 2:
            raise self.fail(f"has a damaged shape or place for part {name[:80]!r}")
        if numel(shape) * SAFETENSORS_BYTES[dtype] != offsets[1] - offsets[0]:
            raise self.fail(f"has a part {name[:80]!r} whose shape and bytes disagree")
        return Part(name=name, dtype=dtype, shape=tuple(shape), begin=offsets[0], end=offsets[1])


def is_size_list(value: object) -> bool:
    """Tell whether ``value`` is a short list of integers that may be sizes or offsets."""
    return (
        isinstance(value, list)
        and len(value) <= 64
        and all(type(item) is int and 0 <= item < 2**62 for item in value)
    )


def write_container(path: str | Path, parts: Iterable[NewPart], metadata: dict[str, str]) -> int:
    """Write a safetensors file in one step that either happens whole or not at all.

    Returns:
        The size of the new file in bytes.

    Raises:
        OutputError: The file cannot be written there; what was there before is untouched.
    """
    target = path_of(path)
    # Wide elements first, so that every part lies at a multiple of its element size.
    ordered = sorted(parts, key=lambda part: -SAFETENSORS_BYTES[part.dtype])
    header: dict[str, Any] = {"__metadata__": metadata}
    position = 0
    for part in ordered:
        end = position + part.data.nbytes
        header[part.name] = {
            "dtype": part.dtype,
            "shape": list(part.shape),
            "data_offsets": [position, end],
        }
        position = end
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    if len(raw) > MAX_HEADER_BYTES:
        raise OutputError(
            f"{path} would need a header of {len(raw)} bytes, more than {MAX_HEADER_BYTES}: "
            "save the model in several files"
        )
    _write_atomically(target, [len(raw).to_bytes(8, "little"), raw], ordered)
    return 8 + len(raw) + position


def _write_atomically(path: Path, head: list[bytes], parts: list[NewPart]) -> None:
    temporary: Path | None = None
    try:
        # A symbolic link stays a link: the file that it points to is replaced.
        target = path.resolve()
        if target.is_dir():
            raise OutputError(f"{path} is a folder: give the name of a file")
        temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
        with temporary.open("xb") as file:
            for block in head:
                file.write(block)
            for part in parts:
                file.write(part.data.view(np.uint8).data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except (OSError, ValueError) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"{path} cannot be written ({error}): choose a writable folder with enough room"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # The rename itself must survive a power cut; some systems cannot open folders, which is fine.
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _open_regular(path: Path) -> BinaryIO:
    try:
        # A pipe or a device would block or never end, so it is refused before it is opened.
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path} is not a regular file: give the path of a file")
        return path.open("rb")
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read ({error}): check the path") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key appears twice")
    return table
