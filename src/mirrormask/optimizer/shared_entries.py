"""A run as tensors by name, the form in which torch's distributed checkpoints keep anything."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mirrormask.errors import ArgumentError, CheckpointError
from mirrormask.optimizer.core import SparseOptimizer
from mirrormask.ranks import is_sharded

Entries = dict[str, Tensor]

_RUN, _MODEL, _STATE, _STORED = "run", "model/", "state/", "stored/"


def to_entries(
    model: nn.Module, optimizer: SparseOptimizer, others: Mapping[str, Any] | None
) -> Entries:
    """Return all that a run needs to go on, sharded as the weights are.

    What is no tensor is in one of bytes, which is read again without running code.

    Raises:
        ArgumentError: If ``others`` hold more than plain values.
    """
    packed = optimizer.state_dict()
    own = packed["mirrormask"]
    state = packed["state"]
    entries = {
        f"{_STATE}{index}/{key}": value
        for index, values in state.items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }
    entries |= {_STORED + name: tensor for name, tensor in own["stored"].items()}
    entries |= {_MODEL + name: value for name, value in tensors_of(model).items()}
    run = {
        "mirrormask": own | {"stored": {}},
        "param_groups": packed["param_groups"],
        # Tensors lose their place among the others on the way: their order is part of the state.
        "state": {
            index: {k: None if isinstance(v, Tensor) else v for k, v in values.items()}
            for index, values in state.items()
        },
        "others": dict(others or {}),
    }
    entries[_RUN] = _to_bytes(run)
    try:
        _from_bytes(entries[_RUN])
    except pickle.UnpicklingError as error:
        raise ArgumentError(
            f"others={others} could not be read again without running code: give numbers, strings, "
            "tensors, lists and dictionaries, such as what a state_dict() returns."
        ) from error
    return entries


def empty_entries(
    model: nn.Module, optimizer: SparseOptimizer, written: Mapping[str, Any]
) -> Entries:
    """Return tensors to read into, sharded as model and optimizer are now.

    Args:
        model: The model.
        optimizer: Its optimizer.
        written: What is known of each entry: its ``size``, and its dtype among ``properties``.

    Raises:
        CheckpointError: If the entries are of another model.
    """
    own = tensors_of(model)
    shapes = {k.removeprefix(_MODEL): v.size for k, v in written.items() if k.startswith(_MODEL)}
    for name in sorted(own.keys() | shapes.keys()):
        here = tuple(own[name].shape) if name in own else None
        there = tuple(shapes[name]) if name in shapes else None
        if here != there:
            raise CheckpointError(
                f"The checkpoint has {name!r} of shape {there}, this model of {here}: resume with "
                "the model of the run that wrote it."
            )
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    like: Entries = {f"{_STATE}{index}": parameter for index, parameter in enumerate(parameters)}
    like |= {prefix + name: value for prefix in (_MODEL, _STORED) for name, value in own.items()}
    like |= {_STORED + weight.name: weight.parameter for weight in optimizer.weights.values()}
    return {key: _empty(like.get(_owner(key)), entry) for key, entry in written.items()}


def load_entries(model: nn.Module, optimizer: SparseOptimizer, entries: Entries) -> dict[str, Any]:
    """Put a run's entries into model and optimizer, and return the ``others``.

    Raises:
        CheckpointError: If they are damaged or of another run; nothing is changed then.
    """
    try:
        run = _from_bytes(entries[_RUN])
        state = {
            index: {
                key: entries.get(f"{_STATE}{index}/{key}", plain) for key, plain in kept.items()
            }
            for index, kept in run["state"].items()
        }
        groups, own, others = run["param_groups"], run["mirrormask"], run["others"]
    except (KeyError, TypeError, AttributeError, RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"The record of the run is damaged ({error!r}): resume from an older checkpoint."
        ) from error
    own = own | {"stored": _below(_STORED, entries)}
    optimizer.load_state_dict({"state": state, "param_groups": groups, "mirrormask": own})
    model.load_state_dict(_below(_MODEL, entries), strict=False)  # its names are checked already
    plain: dict[str, Any] = others
    return plain


def tensors_of(model: nn.Module) -> Entries:
    """Return the tensors of a model's state; some modules keep other things there, too."""
    return {name: v for name, v in model.state_dict().items() if isinstance(v, Tensor)}


def _below(prefix: str, entries: Entries) -> Entries:
    return {k.removeprefix(prefix): v for k, v in entries.items() if k.startswith(prefix)}


def _owner(key: str) -> str:
    """Return what an entry belongs to: a parameter's index, or a tensor's name."""
    if key.startswith(_STATE):
        return key.rpartition("/")[0]
    return key.partition(":")[0] if key.startswith(_STORED) else key


def _empty(like: Tensor | None, entry: Any) -> Tensor:
    size, dtype = entry.size, entry.properties.dtype
    if like is not None and is_sharded(like) and tuple(like.shape) == tuple(size):
        return torch.empty_like(like, dtype=dtype, requires_grad=False)
    return torch.empty(size, dtype=dtype, device=None if like is None else like.device)


def _to_bytes(value: Any) -> Tensor:
    stream = io.BytesIO()
    torch.save(value, stream)
    return torch.frombuffer(bytearray(stream.getvalue()), dtype=torch.uint8)


def _from_bytes(data: Tensor) -> Any:
    return torch.load(io.BytesIO(data.numpy().tobytes()), weights_only=True)
