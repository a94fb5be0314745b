"""From a model and an example to a program's description."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mirrormask.deploy.runner.emit import emit
from mirrormask.deploy.runner.graph import read_model
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.translate import translate
from mirrormask.runtime.description import Description


def plan(model: nn.Module, inputs: tuple[Any, ...], *, part: int | None = None) -> Description:
    """Plan a plain model in evaluation mode for inputs of these sizes.

    Args:
        model: Float32 on the CPU. Its zeros are what is left out.
        inputs: Tensors ``[n, ...]``.
        part: How many examples are worked on at a time; all of them if None.

    Raises:
        UnsupportedError: The model does something that has no step; the text says what.
    """
    tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
    if not tensors or len(tensors) != len(inputs):
        raise UnsupportedError("inputs that are no tensors")
    if any(value.ndim == 0 or len(value) != len(tensors[0]) for value in tensors):
        raise UnsupportedError("inputs of different batch sizes")
    part = part or len(tensors[0])
    if part < 1:
        raise UnsupportedError("an empty batch")
    few = tuple(value[:part].contiguous() for value in tensors)
    return emit(translate(read_model(model, few), part))
