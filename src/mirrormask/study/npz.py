"""Read numpy archives so that damage of any kind ends in one clear sentence."""

from __future__ import annotations

import zipfile
import zlib
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from mirrormask.errors import DataError


def read_arrays(
    content: bytes, source: str, keys: tuple[str, ...], *, remedy: str
) -> tuple[NDArray[np.generic], ...]:
    """Read the named arrays of an npz archive, every byte checked against its checksum.

    Args:
        content: The archive. Pickled objects in it are refused.
        source: The file's name, for the message.
        keys: Arrays to read.
        remedy: What to do about a bad file, closing the message.

    Returns:
        The arrays, in the order of ``keys``.

    Raises:
        DataError: Not an archive, truncated, damaged, or an array is missing.

    Example:
        >>> stream = BytesIO()
        >>> np.savez(stream, a=np.arange(3))
        >>> read_arrays(stream.getvalue(), "x.npz", ("a",), remedy="fetch it again")[0].tolist()
        [0, 1, 2]
    """
    try:
        # Through zipfile rather than np.load: np.load takes any bytes that start like an array.
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = set(archive.namelist())
            missing = [key for key in keys if f"{key}.npy" not in names]
            if missing:
                raise DataError(f"{source} has no array {missing[0]!r}; {remedy}.")
            return tuple(_read_member(archive, f"{key}.npy") for key in keys)
    except DataError:
        raise
    # Damaged bytes may surface as nearly anything: an unknown compression method is a
    # NotImplementedError, an absurd shape a MemoryError or OverflowError, a bad header a
    # SyntaxError or TypeError from numpy's parser, a flag bit "encrypted" a RuntimeError.
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        SyntaxError,
        RuntimeError,
        MemoryError,
        OverflowError,
    ) as error:
        raise DataError(
            f"{source} is truncated, damaged or not an npz file ({error}); {remedy}."
        ) from error


def _read_member(archive: zipfile.ZipFile, name: str) -> NDArray[np.generic]:
    # Reading the member whole makes zipfile compare its CRC before a byte of it is interpreted.
    stream = BytesIO(archive.read(name))
    array: NDArray[np.generic] = np.lib.format.read_array(stream, allow_pickle=False)
    return array
