"""Where a weight keeps its outputs, which structured zeros have to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Layout:
    """How a weight is stored: outputs first, as most modules do, or inputs first.

    Args:
        inputs_first: Whether dimension 0 holds the inputs and dimension 1 the outputs of a group.
        groups: Of a convolution stored inputs first; its inputs lie group by group.

    Example:
        >>> weight = nn.ConvTranspose2d(4, 6, 3, groups=2).weight  # [4, 6 / 2, 3, 3]
        >>> layout = Layout(inputs_first=True, groups=2)
        >>> layout.outputs_first(weight).shape
        torch.Size([6, 2, 3, 3])
        >>> torch.equal(layout.as_stored(layout.outputs_first(weight)), weight)
        True
    """

    inputs_first: bool = False
    groups: int = 1

    def outputs_first(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the weight's shape as [outputs, inputs of a group, ...]."""
        return self._turned(tensor) if self.inputs_first else tensor

    def as_stored(self, tensor: Tensor) -> Tensor:
        """Return what :meth:`outputs_first` returned in the weight's own shape again."""
        return self._turned(tensor) if self.inputs_first else tensor

    def shape(self, stored: Sequence[int]) -> tuple[int, ...]:
        """Return the shape that :meth:`outputs_first` gives a tensor of this one."""
        return tuple(self.outputs_first(torch.empty(*stored, device="meta")).shape)

    def _turned(self, tensor: Tensor) -> Tensor:
        first, second, *rest = tensor.shape
        grouped = tensor.reshape(self.groups, first // self.groups, second, *rest)
        swapped = grouped.transpose(1, 2)
        return swapped.reshape(self.groups * second, first // self.groups, *rest)


def layout_of(owner: nn.Module) -> Layout:
    """Return how a module stores its weight.

    Example:
        >>> layout_of(nn.ConvTranspose1d(8, 8, 3, groups=4))
        Layout(inputs_first=True, groups=4)
    """
    if isinstance(owner, _TRANSPOSED):
        return Layout(inputs_first=True, groups=owner.groups)
    # The linear layer of GPT-2 in transformers, which is no dependency.
    if any(f"{c.__module__}.{c.__name__}" == _GPT2_LINEAR for c in type(owner).__mro__):
        return Layout(inputs_first=True)
    return Layout()


_GPT2_LINEAR = "transformers.pytorch_utils.Conv1D"
