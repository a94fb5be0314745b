"""Where the part of a sharded tensor that this rank holds lies in the whole."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor

from mirrormask.errors import RankError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor


def is_sharded(tensor: object) -> TypeGuard[DTensor]:
    """Return whether this is a ``DTensor``, without importing what that takes."""
    # Nobody has a DTensor who has not imported this; it takes longer than all of mirrormask.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


@torch.no_grad()
def local_part(tensor: Tensor) -> Tensor:
    """Return what this rank holds of a tensor, in the same memory and without a graph.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(3))
        >>> local_part(weight)
        tensor([1., 1., 1.])
    """
    held = tensor.to_local() if is_sharded(tensor) else tensor
    return held.detach()


@dataclass(frozen=True, kw_only=True, eq=False)
class Box:
    """The box that this rank holds of a tensor that is cut along some of its dimensions.

    Attributes:
        mesh: The ranks.
        placements: One for each dimension of the mesh.
        shape: Of the whole tensor.
        starts: First index that is held, for each dimension of the tensor.
        lengths: How many are held; 0 where there are more ranks than rows.
        speaks: Whether this rank is the one among its replicas that counts.
    """

    mesh: DeviceMesh
    placements: tuple[Any, ...]
    shape: tuple[int, ...]
    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    speaks: bool

    @classmethod
    def of(cls, tensor: DTensor) -> Box:
        """Return what this rank holds of a tensor.

        Raises:
            RankError: If a placement is neither a plain shard nor a replica.
        """
        from torch.distributed.tensor import Replicate, Shard  # noqa: PLC0415

        mesh, placements = tensor.device_mesh, tuple(tensor.placements)
        starts, lengths = [0] * tensor.ndim, list(tensor.shape)
        for axis, placement in enumerate(placements):
            if isinstance(placement, Replicate):
                continue
            if type(placement) is not Shard:  # strided shards are a subclass, and no boxes
                raise RankError(
                    f"it is placed as {placement!r} on its mesh, where only plain Shard and "
                    "Replicate are understood"
                )
            # As torch.chunk: equal parts, rounded up, until nothing is left.
            along, ranks = placement.dim % tensor.ndim, mesh.size(axis)
            part = math.ceil(lengths[along] / ranks)
            begin = min(lengths[along], part * mesh.get_local_rank(axis))
            starts[along] += begin
            lengths[along] = min(part, lengths[along] - begin)
        held = tuple(local_part(tensor).shape)
        if held != tuple(lengths):
            raise RankError(
                f"this rank holds {held} of {tuple(tensor.shape)} where its placement "
                f"{placements} means {tuple(lengths)}"
            )
        return cls(
            mesh=mesh,
            placements=placements,
            shape=tuple(tensor.shape),
            starts=tuple(starts),
            lengths=tuple(lengths),
            speaks=speaks(tensor),
        )

    def places_of(self, index: Tensor) -> Tensor:
        """Return the flat positions in the whole of flat positions in the part, int64."""
        place, scale, left = torch.zeros_like(index), 1, index
        for start, length, size in zip(
            reversed(self.starts), reversed(self.lengths), reversed(self.shape), strict=True
        ):
            place += (left % max(length, 1) + start) * scale
            left = left // max(length, 1)
            scale *= size
        return place

    def every(self, stride: int, device: torch.device) -> Tensor:
        """Return the flat positions in the part of every ``stride``-th element of the whole."""
        count = math.prod(self.lengths)
        if self.lengths[1:] == self.shape[1:]:  # whole rows lie one behind the other
            first = -self.starts[0] * math.prod(self.shape[1:]) % stride
            return torch.arange(min(first, count), count, stride, device=device)
        index = torch.arange(count, device=device)
        return index[self.places_of(index) % stride == 0]

    @torch.no_grad()
    def wrap(self, part: Tensor) -> Tensor:
        """Return the sharded tensor of which each rank gives its part."""
        from torch.distributed.tensor import DTensor  # noqa: PLC0415

        stride = torch.empty(self.shape, device="meta").stride()
        return DTensor.from_local(
            part,
            self.mesh,
            self.placements,
            run_check=False,
            shape=torch.Size(self.shape),
            stride=stride,
        )

    @torch.no_grad()
    def wrap_some(self, values: Tensor, total: int) -> Tensor:
        """Return a 1-d sharded tensor of ``total`` values, of which each rank gives any number."""
        from torch.distributed.tensor import DTensor, Shard  # noqa: PLC0415

        placements = [Shard(0) if p.is_shard() else p for p in self.placements]
        return DTensor.from_local(
            values, self.mesh, placements, run_check=False, shape=torch.Size([total]), stride=(1,)
        )

    def cut_out(self, whole: Tensor) -> Tensor:
        """Return this rank's part of a plain tensor of the whole shape."""
        held = tuple(slice(s, s + n) for s, n in zip(self.starts, self.lengths, strict=True))
        return whole[held]


def speaks(tensor: DTensor) -> bool:
    """Return whether this rank is the first of those that hold the same part of a DTensor."""
    mesh = tensor.device_mesh
    return all(
        placement.is_shard() or mesh.get_local_rank(axis) == 0
        for axis, placement in enumerate(tensor.placements)
    )


def sum_over(mesh: DeviceMesh, tensor: Tensor) -> Tensor:
    """Add a tensor up, in place, over all ranks of a mesh."""
    for axis in range(mesh.ndim):
        dist.all_reduce(tensor, group=mesh.get_group(axis))
    return tensor


def first_rank_of(mesh: DeviceMesh) -> bool:
    """Return whether this rank is the first of a mesh."""
    return all(mesh.get_local_rank(axis) == 0 for axis in range(mesh.ndim))
