"""Refuse what is no model, in one sentence, wherever the deployment room is entered."""

from __future__ import annotations

from torch import nn

from mirrormask.errors import ArgumentError


def module_of(value: object) -> nn.Module:
    """Return a module.

    Raises:
        ArgumentError: The value is none.
    """
    if not isinstance(value, nn.Module):
        raise ArgumentError(f"a {type(value).__name__} is no model: give an nn.Module")
    return value
