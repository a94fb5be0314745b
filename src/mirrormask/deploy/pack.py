"""Save and load packed files: ordinary safetensors in which zeros take next to no room."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import overload

import torch
from torch import nn

from mirrormask.deploy.arguments import module_of
from mirrormask.deploy.decode import check_tensor, decode_dense
from mirrormask.deploy.encode import encode_tensor
from mirrormask.deploy.file_report import FileReport, report_of_table
from mirrormask.deploy.fill_model import fill_model
from mirrormask.deploy.manifest import (
    SIGNED_ZEROS,
    VALUE_KINDS,
    Entry,
    SignedZeros,
    Table,
    Values,
    read_manifest,
    write_manifest,
)
from mirrormask.deploy.state_dicts import StateDict, identity_of, state_of
from mirrormask.deploy.unpacked import read_plain, write_plain
from mirrormask.errors import ArgumentError
from mirrormask.files.container import ContainerReader, NewPart, write_container

_PART_SUFFIXES = ("index", "values", "scale", "negative")


def save(
    model_or_state_dict: nn.Module | Mapping[str, torch.Tensor],
    path: str | Path,
    *,
    values: Values = "exact",
    signed_zeros: SignedZeros = "keep",
) -> FileReport:
    """Write a model's tensors to one safetensors file in which zeros take next to no room.

    Each tensor is kept in the smallest of several forms; tied tensors are stored once. The file
    appears whole or not at all.

    Args:
        model_or_state_dict: A module, or names with tensors of any shape and device.
        path: The file to write; an existing one is replaced.
        values: ``"exact"`` keeps every bit. ``"fp32"``, ``"fp16"``, ``"bf16"`` and ``"int8"``
            (one scale per row) store floating tensors of two or more dimensions in that format,
            with loss; loading gives the original type back.
        signed_zeros: ``"keep"`` keeps the sign of every zero. Models that were pruned by
            ``weight * mask`` are full of -0.0; ``"drop"`` stores those as 0.0, which is equal
            and up to three times smaller.

    Returns:
        A table of the tensors with their layouts and bytes.

    Raises:
        ArgumentError: Something in the state dict cannot be packed, or ``values`` is unknown.
        OutputError: The file cannot be written.

    Example:
        >>> import tempfile, torch
        >>> weight = torch.eye(512)
        >>> folder = tempfile.TemporaryDirectory()
        >>> report = save({"weight": weight}, folder.name + "/eye.safetensors")
        >>> report.ratio > 100
        True
        >>> torch.equal(load(folder.name + "/eye.safetensors")["weight"], weight)
        True
    """
    if values not in VALUE_KINDS:
        raise ArgumentError(f"values={values!r} is unknown: choose one of {', '.join(VALUE_KINDS)}")
    if signed_zeros not in SIGNED_ZEROS:
        raise ArgumentError(f"signed_zeros={signed_zeros!r} is unknown: choose keep or drop")
    state = state_of(model_or_state_dict)
    table: Table = {}
    parts: list[NewPart] = []
    first_name: dict[tuple[object, ...], str] = {}
    bases = _Bases(state)
    for name, tensor in state.items():
        identity = identity_of(tensor)
        if identity is not None and identity in first_name:
            table[name] = first_name[identity]
            continue
        if identity is not None:
            first_name[identity] = name
        encoded = encode_tensor(
            name, tensor, values=values, signed_zeros=signed_zeros, base=bases.take(name)
        )
        table[name] = encoded.entry
        parts += encoded.parts
    size = write_container(path, parts, write_manifest(table))
    return report_of_table(path, table, {part.name: part.data.nbytes for part in parts}, size)


@overload
def load(path: str | Path) -> StateDict: ...
@overload
def load(path: str | Path, model: nn.Module) -> nn.Module: ...
def load(path: str | Path, model: nn.Module | None = None) -> StateDict | nn.Module:
    """Read a packed file, as a state dict or into a model.

    The file is read tensor by tensor and every byte is checked. A model is changed only after
    the whole file was found sound and fitting.

    Args:
        path: A file written by :func:`save`.
        model: A module with the same names, shapes and types; it is filled in place.

    Returns:
        The state dict, in the order in which it was saved and with tied names sharing one
        tensor; or the model that was given.

    Raises:
        DataError: The file cannot be read.
        CheckpointError: The file is damaged, is no packed file, or belongs to another model.

    Example:
        >>> import tempfile, torch
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = save(torch.nn.Linear(3, 2), folder.name + "/model.safetensors")
        >>> sorted(load(folder.name + "/model.safetensors"))
        ['bias', 'weight']
    """
    if model is not None:
        module_of(model)
    with ContainerReader(path) as reader:
        table = read_manifest(reader.metadata, reader.parts, reader.fail)
        if model is not None:
            fill_model(reader, table, model)
            return model
        state: StateDict = {}
        for name, entry in table.items():
            if isinstance(entry, Entry):
                state[name] = decode_dense(reader, name, entry)
        return {
            name: state[entry if isinstance(entry, str) else name] for name, entry in table.items()
        }


def inspect(path: str | Path) -> FileReport:
    """Return a table of a packed file's tensors: layout, sparsity, bytes; every byte is checked.

    Raises:
        DataError: The file cannot be read.
        CheckpointError: The file is damaged or is no packed file.

    Example:
        >>> import tempfile, torch
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = save({"w": torch.zeros(100, 100)}, folder.name + "/zeros.safetensors")
        >>> [row.layout for row in inspect(folder.name + "/zeros.safetensors").rows]
        ['rice']
    """
    with ContainerReader(path) as reader:
        table = read_manifest(reader.metadata, reader.parts, reader.fail)
        for name, entry in table.items():
            if isinstance(entry, Entry):
                check_tensor(reader, name, entry)
        sizes = {part.name: part.nbytes for part in reader.parts.values()}
        return report_of_table(path, table, sizes, reader.size)


def pack_file(
    source: str | Path,
    target: str | Path,
    *,
    values: Values = "exact",
    signed_zeros: SignedZeros = "keep",
) -> FileReport:
    """Turn an ordinary safetensors file into a packed one.

    Raises:
        DataError: The source cannot be read.
        CheckpointError: The source is damaged or already packed.
        OutputError: The target cannot be written.
    """
    state = read_plain(source)
    return save(state, target, values=values, signed_zeros=signed_zeros)


def unpack_file(source: str | Path, target: str | Path) -> FileReport:
    """Turn a packed file into an ordinary dense safetensors file that every library reads.

    Tied tensors are written under each of their names.

    Raises:
        DataError: The source cannot be read.
        CheckpointError: The source is damaged or is no packed file.
        ArgumentError: A tensor's type has no place in an ordinary safetensors file.
        OutputError: The target cannot be written.
    """
    report = inspect(source)
    write_plain(load(source), target)
    return report


class _Bases:
    """Hand out stems for part names, so that no part can be taken for another tensor's."""

    def __init__(self, names: Mapping[str, object]) -> None:
        self._taken = {"__metadata__"}
        self._names = set(names)

    def take(self, name: str) -> str:
        base, number = name, 2
        while not self._is_free(base, name):
            base, number = f"{name}::{number}", number + 1
        self._taken |= {base, *(f"{base}::{part}" for part in _PART_SUFFIXES)}
        return base

    def _is_free(self, base: str, name: str) -> bool:
        parts = {f"{base}::{part}" for part in _PART_SUFFIXES}
        clashes = self._names - {name}
        return not ({base, *parts} & self._taken) and not ({base, *parts} & clashes)
