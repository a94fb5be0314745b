"""The table of contents of a packed file: what each tensor is and which parts hold it.

It is one JSON text in the metadata of the safetensors file, with a checksum of its own. Everything
that it says is checked against the header before a byte of weight is read or allocated.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

import torch

from mirrormask.deploy.dtypes import (
    TORCH_BY_NAME,
    stored_as,
    word_bytes,
    words_per_element,
)
from mirrormask.errors import CheckpointError
from mirrormask.files.container import Part, is_size_list
from mirrormask.files.elements import numel
from mirrormask.files.index_coding import INDEX_LAYOUTS, IndexLayout

FORMAT_VERSION = 1
MANIFEST_KEY = "mirrormask"
CHECKSUM_KEY = "mirrormask_crc32"
# An all-zero tensor may shrink this much and no more, so a small file cannot ask for all memory.
MAX_EXPANSION = 2048
_FREE_BYTES = 128

Layout = Literal["dense", "bitmask", "rice", "gaps8"]
Values = Literal["exact", "fp32", "fp16", "bf16", "int8"]
SignedZeros = Literal["keep", "drop"]
SIGNED_ZEROS: tuple[SignedZeros, ...] = get_args(SignedZeros)
VALUE_KINDS: tuple[Values, ...] = get_args(Values)
STORED_DTYPE: dict[Values, str] = {
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "int8": "int8",
}


@dataclass(frozen=True, kw_only=True)
class NegativeZeros:
    """Where a tensor has zeros with a minus sign, as ``weight * mask`` leaves them."""

    layout: IndexLayout
    rice_bits: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tensor of a packed file.

    ``nonzeros`` counts the words that are stored: those whose bits are not all zero, less the
    negative zeros where these have an index of their own. ``base`` is the stem of the part names.
    ``checksum`` is the CRC-32 of the parts' bytes in order.
    """

    dtype: str
    shape: tuple[int, ...]
    layout: Layout
    values: Values
    nonzeros: int
    rice_bits: int
    base: str
    checksum: int
    negative_zeros: NegativeZeros | None = None

    @property
    def torch_dtype(self) -> torch.dtype:
        """Type of the tensor that loading gives."""
        return TORCH_BY_NAME[self.dtype]

    @property
    def stored_dtype(self) -> torch.dtype:
        """Type in which the values are kept in the file."""
        return TORCH_BY_NAME[STORED_DTYPE.get(self.values, self.dtype)]

    @property
    def length(self) -> int:
        """Number of words of the whole tensor in its stored type."""
        return numel(self.shape) * words_per_element(self.stored_dtype)

    @property
    def dense_bytes(self) -> int:
        """Bytes of the tensor once loaded."""
        return numel(self.shape) * self.torch_dtype.itemsize

    def expected_parts(self) -> dict[str, tuple[str, tuple[int, ...] | None]]:
        """Return name -> (safetensors type, shape) of every part; shape None: any length."""
        stored, own = stored_as(STORED_DTYPE.get(self.values, self.dtype))
        word = word_bytes(self.stored_dtype)
        parts: dict[str, tuple[str, tuple[int, ...] | None]] = {}
        if self.layout == "dense":
            parts[self.base] = (stored, self.shape if own else (self.length * word,))
        else:
            parts[f"{self.base}::index"] = ("U8", None)
            parts[f"{self.base}::values"] = (stored, (self.nonzeros * (1 if own else word),))
        if self.values == "int8":
            parts[f"{self.base}::scale"] = ("F32", self.shape[:1])
        if self.negative_zeros is not None:
            parts[f"{self.base}::negative"] = ("U8", None)
        return parts


# A name in the table is either a tensor of its own or a second name of another one.
Table = dict[str, Entry | str]


def write_manifest(table: Table) -> dict[str, str]:
    """Return the metadata of a file that holds ``table``."""
    rows: dict[str, Any] = {}
    for name, entry in table.items():
        if isinstance(entry, str):
            rows[name] = {"same_as": entry}
            continue
        row: dict[str, Any] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "layout": entry.layout,
            "nonzeros": entry.nonzeros,
            "crc32": entry.checksum,
        }
        if entry.values != "exact":
            row["values"] = entry.values
        if entry.layout == "rice":
            row["rice_bits"] = entry.rice_bits
        if entry.negative_zeros is not None:
            row["negative_zeros"] = asdict(entry.negative_zeros)
        if entry.base != name:
            row["base"] = entry.base
        rows[name] = row
    text = json.dumps({"version": FORMAT_VERSION, "tensors": rows}, separators=(",", ":"))
    return {
        "format": "pt",
        MANIFEST_KEY: text,
        CHECKSUM_KEY: f"{zlib.crc32(text.encode()):08x}",
    }


def read_manifest(
    metadata: Mapping[str, str],
    parts: Mapping[str, Part],
    fail: Callable[[str], CheckpointError],
) -> Table:
    """Return the table, checked against the parts that the file really has.

    Raises:
        CheckpointError: Anything that ``fail`` was asked to name.
    """
    text = metadata.get(MANIFEST_KEY)
    if text is None:
        raise fail("is not a packed file (no table of tensors); `mirrormask pack` makes one")
    if metadata.get(CHECKSUM_KEY) != f"{zlib.crc32(text.encode('utf-8', 'replace')):08x}":
        raise fail("has a damaged table of tensors (checksum)")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise fail("has an unreadable table of tensors") from None
    version = document.get("version") if isinstance(document, dict) else None
    if type(version) is not int or version < 1:
        raise fail("has a table of tensors without a version")
    if version > FORMAT_VERSION:
        raise fail(
            f"has format version {version}, newer than {FORMAT_VERSION}, which this mirrormask "
            "reads; update mirrormask or"
        )
    rows = document.get("tensors")
    if not isinstance(rows, dict):
        raise fail("has no table of tensors")
    table: Table = {name: _read_row(name, row, fail) for name, row in rows.items()}
    _check_ties(table, fail)
    _check_against(table, parts, fail)
    return table


def _read_row(name: str, row: object, fail: Callable[[str], CheckpointError]) -> Entry | str:
    bad = fail(f"has a damaged entry for tensor {name[:80]!r}")
    if not isinstance(row, dict):
        raise bad
    if set(row) == {"same_as"} and isinstance(row["same_as"], str):
        return row["same_as"]
    dtype, shape, layout = row.get("dtype"), row.get("shape"), row.get("layout")
    values, bits = row.get("values", "exact"), row.get("rice_bits", 0)
    nonzeros, checksum, base = row.get("nonzeros"), row.get("crc32"), row.get("base", name)
    if not is_size_list(shape) or not is_size_list([nonzeros, checksum, bits]):
        raise bad
    if not isinstance(dtype, str) or dtype not in TORCH_BY_NAME or not isinstance(base, str):
        raise bad
    if layout not in ("dense", *INDEX_LAYOUTS) or values not in VALUE_KINDS:
        raise bad
    entry = Entry(
        dtype=dtype,
        shape=tuple(cast(list[int], shape)),
        layout=cast(Layout, layout),
        values=cast(Values, values),
        nonzeros=cast(int, nonzeros),
        rice_bits=bits,
        base=base,
        checksum=cast(int, checksum),
        negative_zeros=_read_negative(row.get("negative_zeros"), bad),
    )
    lossy = entry.values != "exact"
    if lossy and (not entry.torch_dtype.is_floating_point or not entry.shape):
        raise bad
    if entry.nonzeros > entry.length or (entry.layout != "dense" and not entry.length):
        raise bad
    signed = entry.stored_dtype.is_floating_point and entry.stored_dtype.itemsize > 1
    if entry.negative_zeros is not None and (entry.layout == "dense" or not signed):
        raise bad
    # An empty tensor may still name sizes whose product no library can hold.
    if math.prod(max(size, 1) for size in entry.shape) >= 2**60:
        raise bad
    return entry


def _read_negative(row: object, bad: CheckpointError) -> NegativeZeros | None:
    if row is None:
        return None
    if not isinstance(row, dict) or set(row) != {"layout", "rice_bits", "count"}:
        raise bad
    if row["layout"] not in INDEX_LAYOUTS or not is_size_list([row["rice_bits"], row["count"]]):
        raise bad
    return NegativeZeros(**row)


def _check_ties(table: Table, fail: Callable[[str], CheckpointError]) -> None:
    for name, entry in table.items():
        if isinstance(entry, str) and not isinstance(table.get(entry), Entry):
            raise fail(f"ties {name[:80]!r} to {entry[:80]!r}, which it does not hold")


def _check_against(
    table: Table, parts: Mapping[str, Part], fail: Callable[[str], CheckpointError]
) -> None:
    unused = set(parts)
    for name, entry in table.items():
        if isinstance(entry, str):
            continue
        total = 0
        for part_name, (dtype, shape) in entry.expected_parts().items():
            part = parts.get(part_name)
            if part is None or part_name not in unused:
                raise fail(f"lacks a part of tensor {name[:80]!r}, or names it twice")
            unused.discard(part_name)
            wrong_shape = len(part.shape) != 1 if shape is None else part.shape != shape
            if part.dtype != dtype or wrong_shape:
                raise fail(f"has a part of tensor {name[:80]!r} with another type or size")
            total += part.nbytes
        if entry.dense_bytes > MAX_EXPANSION * (total + _FREE_BYTES):
            raise fail(f"claims an impossible size for tensor {name[:80]!r}")
    if unused:
        raise fail(f"has a part {min(unused)[:80]!r} that no tensor owns")


def may_expand(dense_bytes: int, stored_bytes: int) -> bool:
    """Tell whether readers accept a tensor of ``dense_bytes`` stored in ``stored_bytes``."""
    return dense_bytes <= MAX_EXPANSION * (stored_bytes + _FREE_BYTES)


def index_layout(entry: Entry) -> IndexLayout:
    """Return the layout of an entry that is known to be stored sparsely."""
    return cast(IndexLayout, entry.layout)
