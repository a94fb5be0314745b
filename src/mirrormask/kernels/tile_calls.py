"""The shared library's functions for convolutions in tiles of their output."""

from __future__ import annotations

import ctypes
from ctypes import byref

from mirrormask.kernels.failing import fail
from mirrormask.kernels.structures import Rows, Tiles


class TileCalls:
    """Plans and runs convolutions in tiles, called with addresses and sizes."""

    def __init__(self, functions: ctypes.CDLL) -> None:
        self._functions = functions
        self._conv2d = functions.mm_tiles_conv2d

    def plan(self, tiles: Tiles) -> bool:
        """Fill in a plan; False where the sizes cannot be.

        ``tiles.pays`` tells whether to use it.
        """
        return bool(self._functions.mm_tiles_plan(byref(tiles)) == 0)

    def fill(self, tiles: Tiles, rows: Rows, *, starts: int, offsets: int, values: int) -> None:
        """Lay the weights of ``rows`` out as a plan that pays wants them.

        Raises:
            ArgumentError: A column is outside the kernel.
        """
        code = self._functions.mm_tiles_fill(byref(tiles), byref(rows), starts, offsets, values)
        if code:
            fail(code, "the kernel's columns")

    def conv2d(self, tiles: Tiles, rows: Rows, x: int, y: int, *, threads: int) -> None:
        """Convolve the planned images at ``x`` with rows that were laid out.

        Raises:
            MemoryError: There is no scratch memory.
            ArgumentError: A size is impossible.
        """
        code = self._conv2d(byref(tiles), byref(rows), x, y, threads)
        if code:
            fail(code, "the convolution")
