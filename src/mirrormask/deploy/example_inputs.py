"""What a model is called with when it is compiled, exported or timed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mirrormask.errors import ArgumentError

Inputs = torch.Tensor | tuple[Any, ...] | Mapping[str, Any]


def arguments_of(example: Inputs) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return positional and keyword arguments of an example input.

    Raises:
        ArgumentError: It is neither a tensor nor a tuple nor a mapping.
    """
    if isinstance(example, torch.Tensor):
        return (example,), {}
    if isinstance(example, Mapping):
        return (), dict(example)
    if isinstance(example, tuple):
        return example, {}
    raise ArgumentError(
        f"example_inputs is a {type(example).__name__}: give a tensor, a tuple or a mapping"
    )
