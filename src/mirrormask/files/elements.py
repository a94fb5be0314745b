"""The element types that a safetensors file knows by name."""

from __future__ import annotations

import math

SAFETENSORS_BYTES: dict[str, int] = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "I16": 2,
    "U16": 2,
    "I32": 4,
    "U32": 4,
    "I64": 8,
    "U64": 8,
    "F16": 2,
    "BF16": 2,
    "F32": 4,
    "F64": 8,
    "C64": 8,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
}


def numel(shape: list[int] | tuple[int, ...]) -> int:
    """Return the number of elements of a shape; 1 for a 0-d tensor.

    Example:
        >>> numel((3, 4)), numel(())
        (12, 1)
    """
    return math.prod(shape)
