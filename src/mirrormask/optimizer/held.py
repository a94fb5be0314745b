"""A tensor of the model, or the part of it that this rank holds."""

from __future__ import annotations

import torch
from torch import Tensor

from mirrormask.errors import CheckpointError
from mirrormask.layout import Layout
from mirrormask.ranks import Box, is_sharded, local_part, sum_in_shards
from mirrormask.selection import Target


class Held:
    """Goes to and fro between a tensor of the model and what is here of it.

    Attributes:
        name: Qualified name of the tensor in the model.
        names: All its names, where it is tied.
        parameter: The model's own tensor.
        box: How it is sharded, or None where it is whole.
        layout: Where it keeps its outputs.
    """

    def __init__(self, target: Target) -> None:
        self.name = target.name
        self.names = target.names
        self.parameter = target.parameter
        self.box = Box.of(self.parameter) if is_sharded(self.parameter) else None
        # Where shards are, no masking asks for rows.
        self.layout = target.layout if self.box is None else Layout()

    @property
    def local(self) -> Tensor:
        """The weight, or the part of it that is here, in the model's memory."""
        return self.parameter.detach() if self.box is None else local_part(self.parameter)

    def wrap(self, part: Tensor) -> Tensor:
        """Return a tensor of the weight's shape, sharded as the weight is, from parts of it."""
        if self.box is None or tuple(part.shape) != self.box.lengths:
            return part
        return self.box.wrap(part)

    def part_of(self, tensor: Tensor) -> Tensor:
        """Return what is here of a tensor that is sharded as the weight is, or whole."""
        if is_sharded(tensor):
            there = Box.of(tensor)
            if self.box is None or there.placements != self.box.placements:
                raise CheckpointError(
                    f"A tensor for {self.name!r} is sharded as {there.placements}, the weight is "
                    "not: load it with mirrormask.load_checkpoint, which shards anew."
                )
            return local_part(tensor)
        if self.box is None or tuple(tensor.shape) != self.box.shape:
            return tensor
        return self.box.cut_out(tensor)

    def lies_as_before(self) -> bool:
        """Return whether the weight is sharded as it was at the start."""
        parameter: Tensor = self.parameter
        if self.box is None or not is_sharded(parameter):
            return self.box is None and not is_sharded(parameter)
        same = tuple(parameter.placements) == self.box.placements
        return same and tuple(self.local.shape) == self.box.lengths

    def wrap_sample(self, values: Tensor, stride: int) -> Tensor:
        """Return numbers on every ``stride``-th weight as a tensor of those on all ranks."""
        if self.box is None:
            return values
        return self.box.wrap_some(values, -(-self.parameter.numel() // stride))

    def root_mean_square(self) -> Tensor:
        """Return that of the whole tensor, 0-d; all ranks have to ask at once."""
        squares = sum_in_shards(
            [self.parameter], lambda t: local_part(t).detach().to(torch.float32).square().sum()
        )
        return (squares[0] / max(1, self.parameter.numel())).sqrt()


def are_equal(used_up: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are equal, faster than ``torch.equal`` does where they are.

    Infinite values count as a difference.
    """
    if not other.numel():
        return True
    ends = torch.stack(torch.aminmax(used_up.sub_(other)))
    return torch.equal(ends, torch.zeros_like(ends))
