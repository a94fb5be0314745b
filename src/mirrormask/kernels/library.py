"""The shared library's functions, called with addresses and sizes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_int32, c_int64, c_void_p
from pathlib import Path

from mirrormask.kernels.failing import fail
from mirrormask.kernels.live_calls import LiveCalls
from mirrormask.kernels.structures import (
    SIGNATURES,
    VARIANTS,
    Blocks,
    Conv,
    Live,
    ProgramData,
    Rows,
    Tiles,
)
from mirrormask.kernels.tile_calls import TileCalls

_ABI = 10


class Library:
    """The shared library with its functions declared; ``variant`` is what new matrices get.

    Convolutions in training are under ``live``, those in tiles of their output under ``tiles``.

    Raises:
        OSError: The file is no library that this process can load, or of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._functions = ctypes.CDLL(str(path))
        for name, (result, arguments) in SIGNATURES.items():
            try:
                function = getattr(self._functions, name)
            except AttributeError as error:
                raise OSError(f"it lacks {name}") from error
            function.restype, function.argtypes = result, arguments
        if self._functions.mm_abi() != _ABI:
            raise OSError(f"its interface is version {self._functions.mm_abi()}, not {_ABI}")
        sizes = (c_int64 * 6)()
        self._functions.mm_sizes(byref(sizes))
        kinds = (Rows, Blocks, Conv, ProgramData, Live, Tiles)
        if list(sizes) != [ctypes.sizeof(kind) for kind in kinds]:
            raise OSError("its structures are laid out in another way")
        self.variants = tuple(
            name for index, name in enumerate(VARIANTS) if self._functions.mm_supported(index)
        )
        self.variant = self.variants[-1]
        self.live, self.tiles = LiveCalls(self._functions), TileCalls(self._functions)
        # Bound once: attribute look-ups would be a good part of a call of ten microseconds.
        self._linear = self._functions.mm_linear
        self._conv2d = self._functions.mm_conv2d
        # Takes a packed ``mm_call`` and returns a code: some programs take a microsecond, and each
        # argument of a foreign function is a good part of one.
        self.run_program: Callable[[bytes], int] = self._functions.mm_program_run

    def rows(
        self,
        rows: int,
        *,
        starts: int,
        columns: int,
        values: int,
        bias: int | None,
        relu: bool,
    ) -> Rows:
        """Describe a matrix whose arrays lie at these addresses."""
        variant = VARIANTS.index(self.variant)
        return Rows(rows, starts, columns, values, bias, int(relu), variant, None)

    def least_for_blocks(self, rows: Rows, width: int) -> int:
        """Return from how many input rows on blocks make products faster; 2**63 - 1 is never."""
        return int(self._functions.mm_least_for_blocks(byref(rows), width))

    def plan_blocks(self, matrix: Rows, width: int) -> tuple[Blocks, list[int]]:
        """Return how a matrix would be cut into blocks, and the most bytes of each of its arrays.

        Raises:
            ArgumentError: A size is impossible.
        """
        blocks, sizes = Blocks(), (c_int64 * 5)()
        code = self._functions.mm_blocks_plan(byref(matrix), width, byref(blocks), byref(sizes))
        if code:
            fail(code, "planning blocks")
        return blocks, list(sizes)

    def fill_blocks(self, matrix: Rows, blocks: Blocks) -> tuple[int, int]:
        """Cut a matrix into planned blocks, and return the bytes of groups and rows there are.

        Raises:
            ArgumentError: A size is impossible.
        """
        used = (c_int64 * 2)()
        code = self._functions.mm_blocks_fill(byref(matrix), byref(blocks), byref(used))
        if code:
            fail(code, "cutting into blocks")
        return used[0], used[1]

    def linear(
        self,
        rows: Rows,
        width: int,
        x: int,
        n: int,
        y: int,
        *,
        by_columns: ctypes.Array[c_int32],
        threads: int,
    ) -> None:
        """Write ``x W^T + b`` for ``n`` rows of ``width`` floats to ``y``.

        Raises:
            MemoryError: There is no scratch memory.
            ArgumentError: A size is impossible.
        """
        code = self._linear(byref(rows), width, x, n, y, byref(by_columns), threads)
        if code:
            fail(code, "the linear product")

    def value_gradient(
        self, rows: Rows, dy: int, x: int, n: int, out: int, *, threads: int
    ) -> None:
        """Write the gradient of each stored value to ``out``.

        ``dy`` is ``[rows, n]``, ``x`` ``[width, n]``, both by columns of the batch.

        Raises:
            ArgumentError: A size is impossible.
        """
        code = self._functions.mm_value_gradient(byref(rows), dy, x, n, out, threads)
        if code:
            fail(code, "the gradient of sparse values")

    def transpose(self, x: int, rows: int, columns: int, out: int, *, threads: int) -> None:
        """Write the transposed of ``[rows, columns]`` floats at ``x`` to ``out``.

        Raises:
            ArgumentError: A size is impossible.
        """
        variant = VARIANTS.index(self.variant)
        code = self._functions.mm_transpose(x, rows, columns, out, variant, threads)
        if code:
            fail(code, "the transposition")

    def plan(self, conv: Conv) -> bool:
        """Fill in a convolution's plan; False where its sizes cannot be."""
        return bool(self._functions.mm_conv_plan(byref(conv)) == 0)

    def offsets(self, conv: Conv, columns: int, nonzeros: int, offsets: int) -> None:
        """Turn kernel columns into offsets of the planned packed input.

        Raises:
            ArgumentError: A column is outside the kernel.
        """
        code = self._functions.mm_conv_offsets(byref(conv), columns, nonzeros, offsets)
        if code:
            fail(code, "the kernel's columns")

    def conv2d(self, conv: Conv, rows: Rows, x: int, y: int, *, threads: int) -> None:
        """Convolve the planned images at ``x``.

        Raises:
            MemoryError: There is no scratch memory.
            ArgumentError: A size is impossible.
        """
        code = self._conv2d(byref(conv), byref(rows), x, y, threads)
        if code:
            fail(code, "the convolution")

    def advance(
        self,
        x: int,
        gain: int,
        n: int,
        block: int,
        *,
        square: float,
        ratio: float,
        bound: float,
        threads: int,
    ) -> list[int]:
        """Take a step of the mirror flow for ``n`` floats at ``x``, block by block.

        Returns:
            The numbers of the blocks that were left as they are: a gain is beyond the bound.

        Raises:
            ArgumentError: A size is impossible.
        """
        left = ctypes.create_string_buffer(max(1, -(-n // block)))
        variant = VARIANTS.index(self.variant)
        code = self._functions.mm_advance(
            x, gain, n, block, square, ratio, bound, left, variant, threads
        )
        if code < 0:
            fail(-code, "the mirror step")
        return [index for index, mark in enumerate(left.raw) if mark] if code else []

    def shrink(
        self, x: int, n: int, *, square: float, tanh: float, cosh: float, threads: int
    ) -> None:
        """Soft-threshold the dual of ``n`` floats at ``x``.

        Raises:
            ArgumentError: A size is impossible.
        """
        variant = VARIANTS.index(self.variant)
        code = self._functions.mm_shrink(x, n, square, tanh, cosh, variant, threads)
        if code:
            fail(code, "the proximal step")

    def rows_are_sound(
        self, starts: int, columns: int, rows: int, nonzeros: int, width: int
    ) -> bool:
        """Tell whether index arrays describe a matrix, so that no read goes astray."""
        return not self._functions.mm_check_rows(starts, columns, rows, nonzeros, width)

    def open_program(self, data: ProgramData) -> int:
        """Check a program and return its handle, which :meth:`close_program` takes back.

        Raises:
            MemoryError: There is no memory.
            ArgumentError: A step would leave its memory, or has sizes that cannot be.
        """
        handle = c_void_p()
        data.variant = VARIANTS.index(self.variant)
        code = self._functions.mm_program_open(byref(data), byref(handle))
        if code:
            fail(code, "the program")
        assert handle.value is not None
        return handle.value

    def program_bytes(self, handle: int) -> int:
        """Return the bytes of what opening a program made of its weights."""
        return int(self._functions.mm_program_bytes(handle))

    def close_program(self, handle: int) -> None:
        """Free what :meth:`open_program` made; its arrays are the caller's."""
        self._functions.mm_program_close(handle)

    def peak(self, variant: str, rounds: int) -> float:
        """Run multiply-adds in registers and return how many operations that were."""
        return float(self._functions.mm_peak(VARIANTS.index(variant), rounds))

    def release(self) -> None:
        """Free this thread's scratch memory and end idle worker threads."""
        self._functions.mm_release()
