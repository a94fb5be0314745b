"""What the kernels' exit codes mean."""

from __future__ import annotations

from typing import NoReturn

from mirrormask.errors import ArgumentError

_NO_MEMORY = 1


def fail(code: int, what: str) -> NoReturn:
    """Raise what a code other than 0 stands for."""
    if code == _NO_MEMORY:
        raise MemoryError(f"{what} found no scratch memory")
    raise ArgumentError(f"{what} was given sizes or arrays that do not fit: check its shapes")
