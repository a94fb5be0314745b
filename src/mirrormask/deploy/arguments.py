"""Refuse what is no path and no model, in one sentence, wherever the deployment room is entered."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

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


def module_of(value: object) -> nn.Module:
    """Return a module.

    Raises:
        ArgumentError: The value is none.
    """
    if not isinstance(value, nn.Module):
        raise ArgumentError(f"a {type(value).__name__} is no model: give an nn.Module")
    return value
