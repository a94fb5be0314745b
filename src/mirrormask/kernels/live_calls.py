"""The shared library's functions for convolutions in training."""

from __future__ import annotations

import ctypes
from ctypes import byref

from mirrormask.kernels.failing import fail
from mirrormask.kernels.structures import Live, Rows


class LiveCalls:
    """Plans and runs convolutions of live weights, called with addresses and sizes."""

    def __init__(self, functions: ctypes.CDLL) -> None:
        self._functions = functions

    def plan(self, live: Live) -> bool:
        """Fill in the plan of a convolution in training; False where its sizes cannot be."""
        return bool(self._functions.mm_live_plan(byref(live)) == 0)

    def offsets(self, live: Live, columns: int, nonzeros: int, offsets: int) -> None:
        """Turn kernel columns into offsets of the planned packed input.

        Raises:
            ArgumentError: A column is outside the kernel.
        """
        code = self._functions.mm_live_offsets(byref(live), columns, nonzeros, offsets)
        if code:
            fail(code, "the kernel's columns")

    def turned_offsets(self, live: Live, columns: int, nonzeros: int, offsets: int) -> None:
        """Turn columns of the turned kernel into offsets of the packed output gradient.

        Raises:
            ArgumentError: A column is outside the kernel.
        """
        code = self._functions.mm_live_turned_offsets(byref(live), columns, nonzeros, offsets)
        if code:
            fail(code, "the turned kernel's columns")

    def forward(self, live: Live, rows: Rows, x: int, y: int, *, threads: int) -> None:
        """Convolve the planned images at ``x``.

        Raises:
            MemoryError: There is no scratch memory.
            ArgumentError: A size is impossible.
        """
        code = self._functions.mm_live_forward(byref(live), byref(rows), x, y, threads)
        if code:
            fail(code, "the convolution")

    def backward(
        self,
        live: Live,
        rows: Rows,
        turned: Rows | None,
        x: int,
        grad: int,
        *,
        to_x: int | None,
        to_values: int | None,
        threads: int,
    ) -> None:
        """Write the gradients of a planned convolution's input and values, where wanted.

        Raises:
            MemoryError: There is no scratch memory.
            ArgumentError: A size is impossible.
        """
        code = self._functions.mm_live_backward(
            byref(live),
            byref(rows),
            None if turned is None else byref(turned),
            x,
            grad,
            to_x,
            to_values,
            threads,
        )
        if code:
            fail(code, "the gradients of a convolution")
