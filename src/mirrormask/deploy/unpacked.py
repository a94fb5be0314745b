"""Read and write ordinary dense safetensors files, the form that every other library uses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from mirrormask.deploy.dtypes import dtype_name, stored_as, torch_from_safetensors, words_of
from mirrormask.deploy.manifest import MANIFEST_KEY
from mirrormask.errors import ArgumentError, CheckpointError
from mirrormask.files.container import ContainerReader, NewPart, write_container


def read_plain(path: str | Path) -> dict[str, torch.Tensor]:
    """Read an ordinary safetensors file into memory of its own.

    Raises:
        DataError: The file cannot be read.
        CheckpointError: The file is damaged, or is a packed one.
    """
    state = {}
    with ContainerReader(path) as reader:
        if MANIFEST_KEY in reader.metadata:
            raise CheckpointError(f"{path} is packed already: use it as it is")
        for name, part in reader.parts.items():
            flat = torch.from_numpy(reader.read(part)).view(torch_from_safetensors(part.dtype))
            state[name] = flat.reshape(part.shape)
    return state


def write_plain(state: Mapping[str, torch.Tensor], path: str | Path) -> int:
    """Write a state dict as an ordinary safetensors file and return its size in bytes.

    Raises:
        ArgumentError: A tensor's type has no safetensors name.
        OutputError: The file cannot be written.
    """
    parts = []
    for name, tensor in state.items():
        stored, own = stored_as(dtype_name(name, tensor.dtype))
        if not own or name == "__metadata__":
            raise ArgumentError(
                f"tensor {name!r} ({tensor.dtype}) has no place in an ordinary safetensors file: "
                "keep the packed one"
            )
        words = words_of(tensor.detach().resolve_conj().resolve_neg().cpu().contiguous())
        parts.append(NewPart(name=name, dtype=stored, shape=tuple(tensor.shape), data=words))
    return write_container(path, parts, {"format": "pt"})
