"""What a model is called with when it is compiled, exported or timed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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


@contextmanager
def running_on_example() -> Iterator[None]:
    """Say that it was the example on which a model failed inside.

    Raises:
        ArgumentError: Anything went wrong: a model's own code may raise what it likes, and the
            user must see what and from which call.
    """
    try:
        yield
    except Exception as error:
        raise ArgumentError(
            f"the model does not run on the example inputs ({type(error).__name__}: {error}): "
            "give inputs as its forward takes them"
        ) from error
