"""Read pickle files that hold plain values and numpy arrays, and nothing that could run."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
from numpy._core import multiarray

from mirrormask.errors import DataError

_DTYPES = frozenset(
    np.dtype(kind) for kind in ("b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
)


def read_plain_pickle(content: bytes, source: str) -> Any:
    """Return what a pickle holds, if that is made of builtin values and numeric numpy arrays.

    A pickle is a program that may call anything by its name. Here the only names it can reach are
    those that rebuild an array of numbers; any other one ends the reading before it is looked up.

    Args:
        content: Of the file. Texts of Python 2 come back as bytes.
        source: Name for error messages.

    Raises:
        DataError: The pickle names anything else, or is damaged.

    Example:
        >>> read_plain_pickle(pickle.dumps({"labels": [3, 1]}), "example")
        {'labels': [3, 1]}
    """
    try:
        return _PlainUnpickler(io.BytesIO(content), source).load()
    except DataError:
        raise
    # A damaged pickle can fail in any instruction, in as many ways.
    except Exception as error:
        raise DataError(
            f"{source} is no readable pickle ({type(error).__name__}: {error}); fetch the file "
            "again."
        ) from error


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, source: str) -> None:
        super().__init__(stream, encoding="bytes")
        self.source = source

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the few names that belong to arrays."""
        if (module, name) not in _ALLOWED:
            raise DataError(
                f"{self.source} wants to load {module}.{name}, which plain data never need: it is "
                "not opened, since a pickle may run anything; fetch the file from its authors."
            )
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to objects outside the file."""
        raise DataError(f"{self.source} refers to an object outside itself: fetch it again.")


def _empty_array(kind: Any, shape: Any, code: Any) -> Any:
    return multiarray._reconstruct(np.ndarray, (0,), b"b")


def _number_type(kind: Any, *flags: Any) -> np.dtype[Any]:
    # A copy, because the pickle sets the state of what it gets.
    dtype = np.dtype(kind.decode("ascii") if isinstance(kind, bytes) else kind, copy=True)
    if dtype not in _DTYPES:
        raise ValueError(f"an array of type {dtype}, not of numbers")
    return dtype


def _text_bytes(text: Any, encoding: Any) -> bytes:
    # Python 3 writes bytes in the oldest protocols as a text and the call codecs.encode.
    if encoding not in ("latin1", b"latin1"):
        raise ValueError(f"a text in {encoding!r}")
    return str(text).encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
    # Named as an argument of _reconstruct; nothing can be called through this.
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _number_type,
    ("_codecs", "encode"): _text_bytes,
}
