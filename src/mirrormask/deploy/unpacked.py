"""Write ordinary dense safetensors files, the form that every other library reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from mirrormask.deploy.container import NewPart, write_container
from mirrormask.deploy.dtypes import dtype_name, stored_as, words_of
from mirrormask.errors import ArgumentError


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
