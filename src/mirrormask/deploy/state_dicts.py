"""What may be stored, and when two names mean the same tensor."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from mirrormask.errors import ArgumentError

StateDict = dict[str, torch.Tensor]


def state_of(source: nn.Module | Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Return names and tensors that can be stored.

    Raises:
        ArgumentError: Something among them is no plain tensor with values.
    """
    if isinstance(source, nn.Module):
        source = source.state_dict()
    if not isinstance(source, Mapping):
        raise ArgumentError(
            f"a {type(source).__name__} cannot be saved: give a module or a state dict"
        )
    for name, tensor in source.items():
        if not isinstance(name, str) or not _is_text(name):
            raise ArgumentError(f"{name!r} is no name for a tensor: use text")
        if not isinstance(tensor, torch.Tensor):
            raise ArgumentError(
                f"{name!r} is a {type(tensor).__name__}, not a tensor: leave it out of the file"
            )
        if type(tensor) not in (torch.Tensor, nn.Parameter, nn.Buffer):
            raise ArgumentError(
                f"tensor {name!r} is a {type(tensor).__name__}: convert it to a plain tensor first"
            )
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
            raise ArgumentError(f"tensor {name!r} is not strided: call to_dense() on it first")
        if tensor.is_meta:
            raise ArgumentError(f"tensor {name!r} is on the meta device and has no values")
    return source


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def identity_of(tensor: torch.Tensor) -> tuple[object, ...] | None:
    """Return what two names of the same tensor share, or None where there is no memory to share."""
    if tensor.numel() == 0:
        return None
    return (
        tensor.device,
        tensor.data_ptr(),
        tensor.dtype,
        tuple(tensor.shape),
        tensor.stride(),
        tensor.is_conj(),
        tensor.is_neg(),
    )
