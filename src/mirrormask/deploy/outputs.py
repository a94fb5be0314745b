"""Compare what two models put out, whatever structure they return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass

import torch


def tensors_in(output: object) -> list[torch.Tensor]:
    """Return all tensors in a nested output of tuples, lists, mappings and dataclasses."""
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, Mapping):
        return [tensor for value in output.values() for tensor in tensors_in(value)]
    if isinstance(output, list | tuple):
        return [tensor for value in output for tensor in tensors_in(value)]
    if is_dataclass(output) and not isinstance(output, type):
        return [t for field in fields(output) for t in tensors_in(getattr(output, field.name))]
    return []


def output_error(found: object, expected: object) -> float:
    """Return the largest difference over the largest expected value; inf where shapes differ.

    Example:
        >>> import torch
        >>> output_error((torch.tensor([1.0, 2.0]),), [torch.tensor([1.0, 4.0])])
        0.5
    """
    pairs = list(zip(tensors_in(found), tensors_in(expected), strict=False))
    if len(tensors_in(found)) != len(tensors_in(expected)):
        return float("inf")
    worst = 0.0
    for left, right in pairs:
        if left.shape != right.shape:
            return float("inf")
        worst = max(worst, _error(left, right))
    return worst


def _error(left: torch.Tensor, right: torch.Tensor) -> float:
    a, b = (tensor.detach().cpu().to(torch.float64).flatten() for tensor in (left, right))
    same = (a == b) | (torch.isnan(a) & torch.isnan(b))
    if bool(same.all()):
        return 0.0
    difference = (a - b).abs()[~same]
    if not bool(torch.isfinite(difference).all()):
        return float("inf")
    scale = b.abs()[torch.isfinite(b)].amax().clamp_min(torch.finfo(torch.float32).tiny)
    return float(difference.max() / scale)
