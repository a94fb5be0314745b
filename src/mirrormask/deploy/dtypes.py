"""Which element types a packed file holds, and how their bits are looked at.

Packing works on bit patterns, never on numbers, so that NaN payloads and negative zeros survive.
A *word* is the unit in which zeros are skipped: one element of at most 8 bytes, or half an
element of the 16-byte complex type.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mirrormask.errors import ArgumentError

Words = npt.NDArray[Any]

# torch dtype -> safetensors name; None: the format has no name for it, so raw bytes are stored.
_CANDIDATES: dict[str, str | None] = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "uint16": "U16",
    "int32": "I32",
    "uint32": "U32",
    "int64": "I64",
    "uint64": "U64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": None,
    "float8_e5m2fnuz": None,
    "complex32": None,
    "complex128": None,
}
TORCH_BY_NAME: dict[str, torch.dtype] = {
    name: getattr(torch, name) for name in _CANDIDATES if hasattr(torch, name)
}
NAME_BY_TORCH: dict[torch.dtype, str] = {dtype: name for name, dtype in TORCH_BY_NAME.items()}
_NAME_BY_SAFETENSORS: dict[str, str] = {
    stored: name for name, stored in _CANDIDATES.items() if stored is not None
}
_WORD_TORCH = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_WORD_NUMPY = {1: np.uint8, 2: np.int16, 4: np.int32, 8: np.int64}


def dtype_name(tensor_name: str, dtype: torch.dtype) -> str:
    """Return the name under which a packed file stores ``dtype``.

    Raises:
        ArgumentError: The type has no packed form (quantised types, for example).
    """
    if dtype not in NAME_BY_TORCH:
        raise ArgumentError(
            f"tensor {tensor_name!r} has type {dtype}, which a packed file cannot hold: "
            "convert it to an ordinary number type first"
        )
    return NAME_BY_TORCH[dtype]


def stored_as(name: str) -> tuple[str, bool]:
    """Return the safetensors type for torch type ``name``, and whether it is that type's own.

    Where it is not, the part is a plain string of bytes.
    """
    stored = _CANDIDATES[name]
    return ("U8", False) if stored is None else (stored, True)


def torch_from_safetensors(stored: str) -> torch.dtype:
    """Return the torch type of a safetensors type name that is known to be valid."""
    return TORCH_BY_NAME[_NAME_BY_SAFETENSORS[stored]]


def word_bytes(dtype: torch.dtype) -> int:
    """Return the size in bytes of the unit in which zeros of this type are skipped."""
    return min(dtype.itemsize, 8)


def words_per_element(dtype: torch.dtype) -> int:
    """Return how many words one element has: 2 for complex128, else 1."""
    return dtype.itemsize // word_bytes(dtype)


def word_numpy(dtype: torch.dtype) -> npt.DTypeLike:
    """Return the numpy integer type that covers one word of ``dtype``."""
    return _WORD_NUMPY[word_bytes(dtype)]


def words_of(tensor: torch.Tensor) -> Words:
    """Return the bits of a contiguous CPU tensor as a flat integer array that shares its memory."""
    # A single element may carry any stride and still count as contiguous.
    flat = tensor.detach().as_strided((tensor.numel(),), (1,))
    words: Words = flat.view(_WORD_TORCH[word_bytes(tensor.dtype)]).numpy()
    return words
