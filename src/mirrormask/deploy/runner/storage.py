"""Buffers of activations: planes of positions that share a grid, and the ports of the network.

A grid lays images out so that a weight's input is always equally far from the output's place: rows
are ``pitch`` floats apart and images ``lines`` rows, with zeros between them that serve as padding
on both sides. All buffers that a convolution, an addition or an activation links share one grid, so
that no step between them has to move anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.views import (
    CHANNELS,
    COLUMNS,
    IMAGES,
    ROWS,
    Dimensions,
    shape_of,
    whole,
)
from mirrormask.runtime.steps import UNIT, Place

_LARGEST = 2**30
# Planes that are a multiple of 1 KB apart would fight for the same lines of the cache.
_CLASH = 256


class Grid:
    """Rows and images of linked buffers; the distances are known once all layers were seen."""

    def __init__(self, images: int) -> None:
        self.images, self._pitch, self._lines = images, 1, 1
        self._parent: Grid | None = None

    def root(self) -> Grid:
        """Return the grid that stands for all linked ones."""
        grid = self
        while grid._parent is not None:
            grid = grid._parent
        return grid

    def need(self, rows: int, columns: int) -> None:
        """Make room for so many rows and columns, the zeros behind them included."""
        root = self.root()
        root._lines, root._pitch = max(root._lines, rows), max(root._pitch, columns)

    def link(self, other: Grid) -> None:
        """Make two grids one."""
        left, right = self.root(), other.root()
        if left is right:
            return
        if left.images != right.images:
            raise UnsupportedError("layers that mix examples of a batch")
        left.need(right._lines, right._pitch)
        right._parent = left

    @property
    def pitch(self) -> int:
        """Floats from a row to the next."""
        return self.root()._pitch

    @property
    def lines(self) -> int:
        """Rows from an image to the next."""
        return self.root()._lines

    @property
    def positions(self) -> int:
        """Places of a plane that may hold something."""
        root = self.root()
        return root.images * root._lines * root._pitch

    def plane(self, *, gapless: bool) -> int:
        """Return the floats from a plane to the next."""
        if self.positions == 1:
            return 1
        floats = -(-self.positions // UNIT) * UNIT
        return floats + UNIT if floats % _CLASH == 0 and not gapless else floats


@dataclass(eq=False, kw_only=True)
class Storage:
    """A buffer of planes ``[images, channels, rows, columns]``; ``stride`` splits it into phases.

    ``lead`` and ``trail`` are the rows and columns that readers look beyond the first and last.
    """

    sizes: tuple[int, int, int, int]
    grid: Grid
    stride: tuple[int, int] = (1, 1)
    phases: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    lead: tuple[int, int] = (0, 0)
    trail: tuple[int, int] = (0, 0)
    offset: int = 0

    @property
    def plane(self) -> int:
        """Floats from a plane to the next."""
        return self.grid.plane(gapless=self.gapless)

    @property
    def gapless(self) -> bool:
        """Whether rows and images follow each other without zeros between them."""
        root = self.grid.root()
        return (root.lines, root.pitch) == self.sizes[2:]

    @property
    def steps(self) -> tuple[int, int, int, int]:
        """Floats along images, channels, rows and columns."""
        grid = self.grid
        return grid.lines * grid.pitch, self.plane * len(self.phases), grid.pitch, 1

    @property
    def used(self) -> int:
        """Positions up to the last pixel."""
        images, _, rows, columns = self.sizes
        grid = self.grid
        return ((images - 1) * grid.lines + rows - 1) * grid.pitch + columns

    @property
    def front(self) -> int:
        """Floats before the first plane that are read as zeros."""
        return _rounded(self.lead[0] * self.grid.pitch + self.lead[1])

    @property
    def floats(self) -> int:
        """Size of the buffer."""
        behind = _rounded(self.trail[0] * self.grid.pitch + self.trail[1] + 3 * UNIT)
        total = self.front + self.sizes[CHANNELS] * len(self.phases) * self.plane + behind
        if total > _LARGEST:
            raise UnsupportedError("activations of more than a gigafloat")
        return total

    @property
    def place(self) -> Place:
        """Where the first plane begins, once buffers have places."""
        return Place(space=0, offset=self.offset + self.front)

    def look_beyond(self, lead: tuple[int, int], trail: tuple[int, int]) -> None:
        """Note how far a reader looks beyond the first and the last pixel."""
        self.lead = max(self.lead[0], lead[0]), max(self.lead[1], lead[1])
        self.trail = max(self.trail[0], trail[0]), max(self.trail[1], trail[1])


@dataclass(eq=False, kw_only=True)
class Port:
    """A contiguous input or output of the network."""

    name: str
    shape: tuple[int, ...]
    space: int

    @property
    def steps(self) -> tuple[int, ...]:
        """Floats along each dimension."""
        return tuple(math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape)))

    @property
    def place(self) -> Place:
        """Where it begins."""
        return Place(space=self.space, offset=0)


@dataclass(frozen=True, eq=False, kw_only=True)
class View:
    """A tensor of the model: a buffer and how the tensor's dimensions lie in it."""

    storage: Storage | Port
    dims: Dimensions

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return shape_of(self.dims)


def image_dims(sizes: tuple[int, int, int, int]) -> Dimensions:
    """Return the dimensions [images, channels, rows, columns] of a buffer."""
    return tuple(whole(axis, size) for axis, size in enumerate(sizes))


def port_view(port: Port) -> View:
    """Return a port as the tensor that it is."""
    return View(storage=port, dims=tuple(whole(axis, size) for axis, size in enumerate(port.shape)))


def new_storage(sizes: tuple[int, int, int, int], grid: Grid | None = None) -> Storage:
    """Return a buffer on a grid of its own, or on a given one, which is made large enough."""
    grid = grid or Grid(sizes[IMAGES])
    grid.need(sizes[ROWS], sizes[COLUMNS])
    return Storage(sizes=sizes, grid=grid)


def _rounded(floats: int) -> int:
    return -(-floats // 16) * 16
