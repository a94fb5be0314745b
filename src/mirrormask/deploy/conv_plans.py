"""The two ways in which the kernels do a convolution, each planned for one size of images."""

from __future__ import annotations

from typing import Protocol

import torch

from mirrormask.deploy.made import Arrays
from mirrormask.errors import ArgumentError
from mirrormask.kernels import VARIANTS, WAYS, Conv, Library, Rows, Tiles


class ConvPlan(Protocol):
    """A convolution of images of one size."""

    @property
    def conv(self) -> Conv:
        """The sizes of its images."""

    @property
    def bytes(self) -> int:
        """What it holds besides the arrays that it was made of."""

    def run(self, x: int, y: int, *, threads: int) -> None:
        """Convolve the images at ``x`` to ``y``."""


class PlanesPlan:
    """Shifted planes of padded images: one offset for each weight."""

    def __init__(self, library: Library, conv: Conv, rows: Rows, columns: torch.Tensor) -> None:
        if not library.plan(conv):
            shape = [conv.images, conv.channels, conv.height, conv.width]
            raise ArgumentError(
                f"images of shape {shape} do not fit the kernel {tuple(conv.kernel)}, or are too "
                "large for one call: give fewer or smaller images"
            )
        self._offsets = torch.empty_like(columns)
        library.offsets(conv, columns.data_ptr(), columns.numel(), self._offsets.data_ptr())
        self._run = library.conv2d
        self._rows = _with_arrays(rows, rows.starts, self._offsets, rows.values)
        self.conv = conv

    @property
    def bytes(self) -> int:
        """Those of the offsets."""
        return self._offsets.nbytes

    def run(self, x: int, y: int, *, threads: int) -> None:
        """Convolve the images at ``x`` to ``y``."""
        self._run(self.conv, self._rows, x, y, threads=threads)


class TilesPlan:
    """Tiles or strips of the output in the lanes of registers; the weights once more, in blocks."""

    def __init__(self, library: Library, tiles: Tiles, rows: Rows, values: torch.Tensor) -> None:
        groups = tiles.outputs * tiles.blocks * (tiles.right + tiles.left + 1)
        empty = torch.empty(groups + 1, dtype=torch.int32)
        self._arrays = (
            empty,
            torch.empty(values.numel(), dtype=torch.int32),
            torch.empty_like(values),
        )
        starts, offsets, copied = self._arrays
        library.tiles.fill(
            tiles,
            rows,
            starts=starts.data_ptr(),
            offsets=offsets.data_ptr(),
            values=copied.data_ptr(),
        )
        self._run = library.tiles.conv2d
        self._rows = _with_arrays(rows, starts.data_ptr(), offsets, copied.data_ptr())
        self.tiles, self.conv = tiles, tiles.conv

    @property
    def bytes(self) -> int:
        """Those of the weights as they were laid out."""
        return sum(array.nbytes for array in self._arrays)

    def run(self, x: int, y: int, *, threads: int) -> None:
        """Convolve the images at ``x`` to ``y``."""
        self._run(self.tiles, self._rows, x, y, threads=threads)


def _with_arrays(rows: Rows, starts: int, offsets: torch.Tensor, values: int) -> Rows:
    """Return the same matrix with other arrays."""
    return Rows(
        rows.rows, starts, offsets.data_ptr(), values, rows.bias, rows.relu, rows.variant, None
    )


def plan_conv(library: Library, conv: Conv, rows: Rows, arrays: Arrays) -> ConvPlan:
    """Plan a convolution in the way that seems faster.

    Args:
        library: The kernels.
        conv: What is given of the sizes.
        rows: The matrix with a column for each (in channel, offset).
        arrays: The same; the caller keeps them alive.

    Raises:
        ArgumentError: The images do not fit the kernel, or are too large.
    """
    _, columns, values = arrays
    tiles = tiles_that_pay(library, conv, outputs=rows.rows, nonzeros=values.numel(), packing=100)
    if tiles is not None:
        return TilesPlan(library, tiles, rows, values)
    return PlanesPlan(library, conv, rows, columns)


def tiles_that_pay(
    library: Library,
    conv: Conv,
    *,
    outputs: int,
    nonzeros: int,
    packing: int,
    way: str = WAYS[0],
) -> Tiles | None:
    """Plan a convolution in tiles; None where planes seem faster, or its sizes cannot be.

    Args:
        library: The kernels.
        conv: What is given of the sizes.
        outputs: Channels that come out.
        nonzeros: Weights.
        packing: The part of its packing that planes would have to do here, in percent.
        way: One of :data:`~mirrormask.kernels.WAYS`.
    """
    variant = VARIANTS.index(library.variant)
    tiles = Tiles(
        conv=conv,
        outputs=outputs,
        nonzeros=nonzeros,
        variant=variant,
        packing=packing,
        way=WAYS.index(way),
    )
    return tiles if library.tiles.plan(tiles) and tiles.pays else None
