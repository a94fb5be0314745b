"""Three ways to write down where the nonzeros of a tensor are.

Positions are strictly increasing integers below a length. Every decoder works in short vectorised
chunks, so its scratch memory does not grow with the tensor, and every form can only express
increasing positions: a damaged stream can be wrong but never points outside or twice at one place.

=========  ==========================================================  ======================
layout     bytes                                                       best when
=========  ==========================================================  ======================
bitmask    length / 8                                                  about half are zeros
rice       unary high bits and k low bit planes of each gap            zeros are scattered
gaps8      one byte a gap, 255 = "skip 255 and go on"                  zeros come in clusters
=========  ==========================================================  ======================

Sixteen-bit gaps were tried as well: Rice coding is smaller wherever gaps are long.
Rice coding (Rice & Plaunt 1971, doi:10.1109/TCOM.1971.1090789) is within 3 % of the entropy of
gaps between independent nonzeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mirrormask.errors import CheckpointError

Positions = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
IndexLayout = Literal["bitmask", "rice", "gaps8"]
INDEX_LAYOUTS: tuple[IndexLayout, ...] = ("bitmask", "rice", "gaps8")
MAX_RICE_BITS = 40
_CHUNK = 1 << 15
_ESCAPE = 255


@dataclass(frozen=True, kw_only=True)
class IndexChoice:
    """One way to write given positions, with its exact cost."""

    layout: IndexLayout
    rice_bits: int
    nbytes: int


def index_choices(positions: Positions, length: int) -> list[IndexChoice]:
    """Return every way to write ``positions`` below ``length``, cheapest first.

    Example:
        >>> import numpy as np
        >>> where = np.arange(0, 100_000, 100)
        >>> [(c.layout, c.nbytes) for c in index_choices(where, 100_000) if c.layout != "rice"]
        [('gaps8', 1001), ('bitmask', 12500)]
    """
    gaps = _gaps(positions, length)
    inner = gaps[:-1]
    choices = [
        IndexChoice(layout="bitmask", rice_bits=0, nbytes=-(-length // 8)),
        IndexChoice(layout="gaps8", rice_bits=0, nbytes=int(gaps.size + (gaps // _ESCAPE).sum())),
    ]
    mean = float(inner.mean()) if inner.size else 0.0
    middle = max(1, int(np.log2(mean + 1.0)))
    for bits in range(max(1, middle - 2), min(MAX_RICE_BITS, middle + 1) + 1):
        unary = -(-int(inner.size + (inner >> bits).sum()) // 8)
        low = bits * -(-inner.size // 8)
        choices.append(IndexChoice(layout="rice", rice_bits=bits, nbytes=unary + low))
    return sorted(choices, key=lambda choice: choice.nbytes)


def encode_positions(positions: Positions, length: int, choice: IndexChoice) -> Bytes:
    """Return the bytes that :func:`decode_positions` turns back into ``positions``."""
    if choice.layout == "bitmask":
        mask = np.zeros(length, dtype=np.bool_)
        mask[positions] = True
        return np.packbits(mask, bitorder="little")
    gaps = _gaps(positions, length)
    if choice.layout == "gaps8":
        return _encode_gaps(gaps)
    return _encode_rice(gaps[:-1], choice.rice_bits)


def decode_positions(
    layout: IndexLayout, code: Bytes, *, length: int, count: int, rice_bits: int
) -> Iterator[Positions]:
    """Yield the positions chunk by chunk; together they are exactly ``count``, below ``length``.

    Raises:
        CheckpointError: The bytes are no valid code for so many positions.
    """
    if layout == "bitmask":
        chunks = _decode_bitmask(code, length)
    elif layout == "rice":
        chunks = _decode_rice(code, length, count, rice_bits)
    else:
        chunks = _decode_gaps(code, length)
    seen = 0
    for chunk in chunks:
        seen += chunk.size
        if seen > count:
            break
        yield chunk
    if seen != count:
        raise CheckpointError(f"the index lists other than the announced {count} nonzeros")


def _gaps(positions: Positions, length: int) -> Positions:
    """Return the zeros before each nonzero and, last, the zeros behind the final one."""
    edges = np.empty(positions.size + 2, dtype=np.int64)
    edges[0], edges[-1] = -1, length
    edges[1:-1] = positions
    return np.diff(edges) - 1


def _encode_gaps(gaps: Positions) -> Bytes:
    ends = np.cumsum(gaps // _ESCAPE + 1) - 1
    code = np.full(int(ends[-1]) + 1, _ESCAPE, dtype=np.uint8)
    code[ends] = gaps % _ESCAPE
    return code


def _decode_gaps(code: Bytes, length: int) -> Iterator[Positions]:
    if code.size == 0 or code[-1] == _ESCAPE:
        raise CheckpointError("the list of gaps has no end")
    edge = 0
    for start in range(0, code.size, _CHUNK):
        chunk = code[start : start + _CHUNK]
        lands = chunk != _ESCAPE
        edges = np.cumsum(chunk.astype(np.int64) + lands) + edge
        edge = int(edges[-1])
        if edge > length + 1:
            raise CheckpointError("the list of gaps points behind the end of the tensor")
        positions = edges[lands] - 1
        # The last gap leads to the end itself: it proves that nothing is missing.
        last = start + chunk.size == code.size
        yield positions[:-1] if last else positions
    if edge != length + 1:
        raise CheckpointError("the list of gaps does not cover the tensor")


def _encode_rice(gaps: Positions, bits: int) -> Bytes:
    ends = np.cumsum((gaps >> bits) + 1) - 1
    unary = np.zeros(int(ends[-1]) + 1 if gaps.size else 0, dtype=np.bool_)
    unary[ends] = True
    planes = [np.packbits((gaps >> bit) & 1 == 1, bitorder="little") for bit in range(bits)]
    return np.concatenate([*planes, np.packbits(unary, bitorder="little")])


def _decode_rice(code: Bytes, length: int, count: int, bits: int) -> Iterator[Positions]:
    plane_bytes = -(-count // 8)
    if not 1 <= bits <= MAX_RICE_BITS or code.size < bits * plane_bytes:
        raise CheckpointError("the Rice code is shorter than its low bits")
    planes = code[: bits * plane_bytes].reshape(bits, plane_bytes)
    unary = code[bits * plane_bytes :]
    edge, done, zeros = 0, 0, 0
    for start in range(0, unary.size, _CHUNK // 8):
        flags = np.unpackbits(unary[start : start + _CHUNK // 8], bitorder="little")
        ends = np.flatnonzero(flags)
        if ends.size == 0:
            zeros += flags.size
            continue
        if done + ends.size > count:
            raise CheckpointError("the Rice code lists more nonzeros than announced")
        high = np.diff(ends, prepend=-1 - zeros) - 1
        zeros = flags.size - 1 - int(ends[-1])
        # Checked before the shift: otherwise a huge value could wrap round into the tensor.
        if int(high.max()) > length >> bits:
            raise CheckpointError("the Rice code points behind the end of the tensor")
        low = _low_bits(planes, done, ends.size)
        positions = np.cumsum((high << bits) + low + 1) + (edge - 1)
        edge = int(positions[-1]) + 1
        if edge > length:
            raise CheckpointError("the Rice code points behind the end of the tensor")
        done += ends.size
        yield positions


def _low_bits(planes: Bytes, start: int, count: int) -> Positions:
    """Return entries ``start .. start + count`` of the numbers whose bit planes are given."""
    low = np.zeros(count, dtype=np.int64)
    first, skip = start // 8, start % 8
    for bit, plane in enumerate(planes):
        flags = np.unpackbits(plane[first : -(-(start + count) // 8)], bitorder="little")
        low |= flags[skip : skip + count].astype(np.int64) << bit
    return low


def _decode_bitmask(code: Bytes, length: int) -> Iterator[Positions]:
    if code.size != -(-length // 8):
        raise CheckpointError("the bitmask has the wrong size")
    for start in range(0, code.size, _CHUNK // 8):
        flags = np.unpackbits(code[start : start + _CHUNK // 8], bitorder="little")
        positions = np.flatnonzero(flags) + 8 * start
        if positions.size and positions[-1] >= length:
            raise CheckpointError("the bitmask points behind the end of the tensor")
        yield positions
