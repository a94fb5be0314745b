"""Find the model that a command line names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import torch
from torch import nn

from mirrormask.deploy.manifest import MANIFEST_KEY
from mirrormask.deploy.pack import load
from mirrormask.deploy.unpacked import read_plain
from mirrormask.errors import ArgumentError, CheckpointError, DataError
from mirrormask.files.container import ContainerReader

_MAX_ELEMENTS = 2**28


def open_model(
    source: str, weights: str | Path | None, example: str
) -> tuple[nn.Module, torch.Tensor]:
    """Return the model and an input of batch 1.

    Args:
        source: ``package.module:function``, called without arguments for a module, or the path
            of a ``.pt2`` file that ``torch.export`` wrote.
        weights: A safetensors file, packed or not, to fill the model with.
        example: Sizes of one input without the batch, such as ``"1,28,28"``.

    Raises:
        ArgumentError: The source, its weights or the example make no model.
        DataError: A file cannot be read.
        CheckpointError: The weights are damaged or belong to another model.

    Example:
        >>> open_model("torch.nn:Identity", None, "3,4")[1].shape
        torch.Size([1, 3, 4])
    """
    sizes = parse_sizes("example", example)
    if torch.Size(sizes).numel() > _MAX_ELEMENTS:
        raise ArgumentError(f"example={example!r} has too many numbers: give the size of one input")
    model = _program(Path(source)) if source.endswith(".pt2") else _built(source)
    if weights is not None:
        _fill(model, Path(weights))
    generator = torch.Generator().manual_seed(0)
    return model, torch.randn(1, *sizes, generator=generator)


def open_data(path: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the tensors ``inputs`` and ``labels`` of a safetensors file.

    Raises:
        DataError: The file cannot be read.
        CheckpointError: The file is damaged.
        ArgumentError: It does not hold as many integer labels as inputs.
    """
    state = read_plain(path)
    inputs, labels = state.get("inputs"), state.get("labels")
    if inputs is None or labels is None or labels.is_floating_point():
        raise ArgumentError(f"{path} must hold tensors 'inputs' and 'labels' (integers)")
    if inputs.ndim < 1 or labels.shape != inputs.shape[:1]:
        raise ArgumentError(f"{path} must hold one label for each input")
    return inputs, labels


def parse_sizes(name: str, text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as ``"1,8,64"``.

    Raises:
        ArgumentError: It is no list of whole numbers of 1 or more.

    Example:
        >>> parse_sizes("batch", "1, 8,64")
        (1, 8, 64)
    """
    try:
        sizes = tuple(int(word) for word in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or any(not 1 <= size < 2**31 for size in sizes):
        raise ArgumentError(f"{name}={text!r} must be whole numbers with commas, like 1,8,64")
    return sizes


def _program(path: Path) -> nn.Module:
    if not path.is_file():
        raise DataError(f"{path} cannot be read: check the path")
    try:
        return torch.export.load(str(path)).module()
    # The loader checks little: a file of another kind fails in any way.
    except Exception as error:
        raise DataError(
            f"{path} is no exported program ({type(error).__name__}): write it with torch.export"
        ) from error


def _built(source: str) -> nn.Module:
    module_name, colon, attribute = source.partition(":")
    if not colon or not module_name or not attribute.isidentifier():
        raise ArgumentError(f"model={source!r} is unknown: give package.module:function or a .pt2")
    # As `python -m` does, so that a file beside the user can be named.
    sys.path.insert(0, str(Path.cwd()))
    try:
        build = getattr(importlib.import_module(module_name), attribute)
        model = build()
    # The user's own code may raise anything.
    except Exception as error:
        raise ArgumentError(
            f"model={source!r} does not build a model ({type(error).__name__}: {error}): "
            "name a function without arguments"
        ) from error
    finally:
        sys.path.pop(0)
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model={source!r} builds a {type(model).__name__}: build an nn.Module")
    return model


def _fill(model: nn.Module, weights: Path) -> None:
    with ContainerReader(weights) as reader:
        packed = MANIFEST_KEY in reader.metadata
    if packed:
        load(weights, model)
        return
    try:
        model.load_state_dict(read_plain(weights))
    except RuntimeError as error:
        raise CheckpointError(
            f"{weights} belongs to another model ({str(error).splitlines()[0]}): "
            "build the model that was saved"
        ) from error
