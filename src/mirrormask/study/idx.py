"""Read IDX files, the array format of the MNIST family, plain or gzipped."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirrormask.errors import DataError

UINT8_CODE = 0x08


def read_idx(path: Path, *, ndim: int) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes.

    The format: two zero bytes, a type code (8 for unsigned bytes), the number of dimensions, each
    dimension as a big-endian 32-bit integer, then the values in C order and nothing after them.

    Args:
        path: The file; gzip is recognised by its first two bytes, not by its name.
        ndim: Dimensions the caller expects: 1 for labels, 3 for images.

    Returns:
        uint8 array of the shape that the file announces.

    Raises:
        DataError: The file is missing, unreadable, truncated, damaged, or is not such an array.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels-idx1-ubyte"
        >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
        >>> read_idx(path, ndim=1).tolist()
        [7, 9]
    """
    return parse_idx(_payload(path), path, ndim=ndim)


def parse_idx(payload: bytes, path: Path, *, ndim: int) -> NDArray[np.uint8]:
    """Parse the uncompressed bytes of an IDX file; ``path`` is named in errors only.

    Raises:
        DataError: Wrong magic number, wrong number of dimensions, no items, or a size that
            differs from the announced shape.

    Example:
        >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 1, 5]), Path("x"), ndim=1).tolist()
        [5]
    """
    header = 4 + 4 * ndim
    if len(payload) < header:
        raise DataError(
            f"{path} is truncated: {len(payload)} bytes do not hold an IDX header of {header} "
            "bytes; fetch the file again."
        )
    magic = payload[:4]
    if magic != bytes([0, 0, UINT8_CODE, ndim]):
        raise DataError(
            f"{path} starts with {magic.hex()}, but an IDX file of unsigned bytes with {ndim} "
            f"dimension(s) starts with {bytes([0, 0, UINT8_CODE, ndim]).hex()}; check that it "
            "is the right file."
        )
    shape = tuple(int.from_bytes(payload[4 + 4 * i : 8 + 4 * i], "big") for i in range(ndim))
    expected, found = math.prod(shape), len(payload) - header
    if expected == 0:
        raise DataError(f"{path} announces an empty array of shape {shape}; fetch the file again.")
    if found != expected:
        raise DataError(
            f"{path} announces {expected} values of shape {shape} but holds {found}; "
            "fetch the file again."
        )
    return np.frombuffer(payload, dtype=np.uint8, offset=header).reshape(shape)


def _payload(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}); check the path and its "
            "permissions."
        ) from error
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path} is a truncated or damaged gzip file ({error}); fetch the file again."
        ) from error
