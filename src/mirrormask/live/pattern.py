"""Where the live weights of a frozen matrix or kernel are, by outputs and by inputs."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Self

import torch
from torch import Tensor

from mirrormask.deploy.conv_product import ConvGeometry


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """The places of a weight's live entries, in the order in which they are stored.

    Outputs are rows. Of a matrix, columns are inputs. Of a kernel they are ``(channel * kernel_h +
    y) * kernel_w + x`` with the channel counted over all groups; turned, there is a row for each
    channel of each phase of the stride that the kernel meets, all channels of the first phase
    first, and columns are ``(output * kernel_h + y) * kernel_w + x``.

    Attributes:
        shape: Of the whole weight, outputs first.
        groups: Of a convolution; each has its share of the outputs and of the inputs.
        starts: int32 [rows + 1], where each row's weights begin.
        columns: int32 [live], increasing within a row.
        turned_starts: The same of the turned weight, int32 [turned rows + 1].
        turned_columns: int32 [live].
        turn: int32 [live]: the turned weights are ``values[turn]``.
    """

    shape: tuple[int, ...]
    groups: int = 1
    starts: Tensor
    columns: Tensor
    turned_starts: Tensor
    turned_columns: Tensor
    turn: Tensor

    @classmethod
    def of(cls, kept: Tensor) -> Self:
        """Return the pattern of a mask ``[rows, columns]`` that is True where a weight lives."""
        rows, columns = torch.nonzero(kept, as_tuple=True)
        turn, turned_starts = _sorted_rows(columns, rows, kept.shape[1])
        return cls(
            shape=tuple(kept.shape),
            starts=_starts(rows, kept.shape[0]),
            columns=columns.to(torch.int32),
            turned_starts=turned_starts,
            turned_columns=rows[turn].to(torch.int32),
            turn=turn.to(torch.int32),
        )

    @classmethod
    def of_kernel(cls, kept: Tensor, geometry: ConvGeometry) -> Self:
        """Return that of a convolution's mask ``[out, in / groups, (kernel_h,) kernel_w]``."""
        out, channels = geometry.out_channels, geometry.in_channels
        groups, height, width = channels // kept.shape[1], *geometry.kernel
        row, channel, y, x = torch.nonzero(kept.view(*kept.shape[:2], height, width), as_tuple=True)
        channel = channel + row // (out // groups) * kept.shape[1]
        phase, phases = 0 * row, 1
        for at, axis in ((y, 0), (x, 1)):
            taps = torch.arange(geometry.kernel[axis]) * geometry.dilation[axis]
            met, places = torch.unique(taps % geometry.stride[axis], return_inverse=True)
            phase, phases = phase * met.numel() + places[at], phases * met.numel()
        turned_columns = (row * height + y) * width + x
        turned_rows = phase * channels + channel
        turn, turned_starts = _sorted_rows(turned_rows, turned_columns, phases * channels)
        return cls(
            shape=tuple(kept.shape),
            groups=groups,
            starts=_starts(row, out),
            columns=((channel * height + y) * width + x).to(torch.int32),
            turned_starts=turned_starts,
            turned_columns=turned_columns[turn].to(torch.int32),
            turn=turn.to(torch.int32),
        )

    @property
    def flat(self) -> Tensor:
        """Return the places in the flattened weight, int64 [live]."""
        width, outputs = prod(self.shape[1:]), self.shape[0]
        rows = torch.repeat_interleave(torch.arange(outputs), self.starts.diff().long())
        groups_before = rows // (outputs // self.groups)
        return (rows - groups_before) * width + self.columns

    @property
    def bytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (
            self.starts,
            self.columns,
            self.turned_starts,
            self.turned_columns,
            self.turn,
        )
        return sum(array.numel() * array.itemsize for array in arrays)

    @property
    def kept(self) -> Tensor:
        """Return the mask in the weight's shape, True where a weight lives."""
        return self.spread(torch.ones(self.columns.numel(), dtype=torch.bool))

    def gather(self, whole: Tensor) -> Tensor:
        """Return the live entries ``[live]`` of a tensor in the weight's shape."""
        return whole.reshape(-1)[self.flat]

    def spread(self, values: Tensor) -> Tensor:
        """Return live entries in the weight's shape, zero elsewhere."""
        whole = values.new_zeros(prod(self.shape))
        whole[self.flat] = values
        return whole.view(self.shape)


def _starts(rows: Tensor, count: int) -> Tensor:
    starts = torch.zeros(count + 1, dtype=torch.int32)
    starts[1:] = torch.bincount(rows, minlength=count).cumsum(0)
    return starts


def _sorted_rows(rows: Tensor, columns: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the order by rows, then columns, and where each row starts in it."""
    order = torch.argsort(columns, stable=True)
    order = order[torch.argsort(rows[order], stable=True)]
    return order, _starts(rows, count)
