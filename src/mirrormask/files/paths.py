"""Refuse what is no path, in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

from mirrormask.errors import ArgumentError


def path_of(value: object) -> Path:
    """Return a path.

    Raises:
        ArgumentError: The value names no file.

    Example:
        >>> path_of("model.safetensors").suffix
        '.safetensors'
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise ArgumentError(f"{value!r} is no path: give text or a pathlib.Path")
    return Path(value)
