"""Fill a model from a packed file: all of it, or nothing when anything does not fit."""

from __future__ import annotations

import torch
from torch import nn

from mirrormask.deploy.decode import check_tensor, decode_dense
from mirrormask.deploy.manifest import Entry, Table
from mirrormask.deploy.state_dicts import identity_of
from mirrormask.errors import ArgumentError, CheckpointError
from mirrormask.files.container import ContainerReader


def fill_model(reader: ContainerReader, table: Table, model: nn.Module) -> None:
    """Copy every tensor into the model, after everything that could go wrong was checked.

    Raises:
        CheckpointError: The file is damaged or belongs to another model; the model is unchanged.
        ArgumentError: The model has tensors without memory.
    """
    targets = model.state_dict(keep_vars=True)
    missing, extra = sorted(set(targets) - set(table)), sorted(set(table) - set(targets))
    if missing or extra:
        raise CheckpointError(
            f"{reader.path} belongs to another model: it lacks {missing[:3]} and holds "
            f"{extra[:3]} besides; build the model that was saved"
        )
    seen: dict[tuple[object, ...], Entry] = {}
    for name, target in targets.items():
        stored = table[name]
        entry = stored if isinstance(stored, Entry) else table[stored]
        assert isinstance(entry, Entry)
        _check_fit(reader, name, entry, target)
        identity = identity_of(target)
        if identity is not None:
            other = seen.setdefault(identity, entry)
            if other.checksum != entry.checksum or other.layout != entry.layout:
                raise CheckpointError(
                    f"{reader.path} holds different values for {name!r} and a tensor that the "
                    "model ties to it: untie them first"
                )
    for name, stored in table.items():
        if isinstance(stored, Entry):
            check_tensor(reader, name, stored)
    aliases: dict[str, list[str]] = {}
    for name, stored in table.items():
        aliases.setdefault(name if isinstance(stored, Entry) else stored, []).append(name)
    with torch.no_grad():
        for name, names in aliases.items():
            entry = table[name]
            assert isinstance(entry, Entry)
            tensor = decode_dense(reader, name, entry)
            for alias in names:
                targets[alias].copy_(tensor)


def _check_fit(reader: ContainerReader, name: str, entry: Entry, target: object) -> None:
    if not isinstance(target, torch.Tensor) or target.is_meta:
        raise ArgumentError(
            f"{name!r} of the model is no tensor with memory: call model.to_empty(device='cpu') "
            "before loading"
        )
    if tuple(target.shape) != entry.shape or target.dtype != entry.torch_dtype:
        raise CheckpointError(
            f"{reader.path} holds {name!r} as {entry.dtype} {list(entry.shape)}, the model as "
            f"{str(target.dtype).removeprefix('torch.')} {list(target.shape)}: "
            "build the model that was saved"
        )
