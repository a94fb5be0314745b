"""A planned network that runs in one call: numpy in, numpy out, no torch anywhere."""

from __future__ import annotations

import math
import struct
import weakref
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mirrormask.errors import ArgumentError, MissingExtraError
from mirrormask.kernels import Library, ProgramData, kernel_status, kernels
from mirrormask.kernels.failing import fail
from mirrormask.runtime.description import Description, Floats


class Program:
    """A network as one list of steps, checked once and run without Python between its layers.

    Args:
        description: Steps and weights; they must stay unchanged.
        library: The compiled kernels; by default those of this installation.

    Raises:
        MissingExtraError: There are no compiled kernels here.
        ArgumentError: A step would read or write outside of its memory.
    """

    def __init__(self, description: Description, library: Library | None = None) -> None:
        library = library or kernels()
        if library is None:
            raise MissingExtraError(
                f"a program needs the compiled kernels: {kernel_status().reason}"
            )
        self.description, self._library = description, library
        self.inputs, self.outputs = description.inputs, description.outputs
        ports = (*self.inputs, *self.outputs)
        sizes = np.array([math.prod(port.shape) for port in ports], dtype=np.int64)
        # The addresses below must not move: these arrays live as long as the program.
        self._arrays = (
            np.ascontiguousarray(description.steps),
            np.ascontiguousarray(description.constants),
            description.indices(),
            sizes,
        )
        steps, constants, indices, _ = self._arrays
        addresses = [array.ctypes.data for array in self._arrays]
        data = ProgramData(
            len(steps),
            constants.size,
            indices.size,
            description.arena,
            len(self.inputs),
            len(self.outputs),
            *addresses,
        )
        self._handle = library.open_program(data)
        # A packed ``mm_call``: the program, parts, threads, where times go, and all ports.
        self._call = struct.Struct(f"Pqq{1 + len(ports)}P").pack
        self._start = library.run_program
        weakref.finalize(self, library.close_program, self._handle)

    def __reduce__(self) -> tuple[type[Program], tuple[Description]]:
        # A program holds addresses of this process: copies and pickles make their own.
        return Program, (self.description,)

    @property
    def nbytes(self) -> int:
        """Bytes of the weights and indices in memory, with what the kernels made of them."""
        given = sum(int(array.nbytes) for array in self._arrays)
        return given + self._library.program_bytes(self._handle)

    def __call__(self, *inputs: npt.ArrayLike, threads: int = 1) -> Floats | tuple[Floats, ...]:
        """Run the network.

        Args:
            inputs: As the model takes them, float32, with any number of examples.
            threads: How many threads may work on it.

        Returns:
            The output ``[n, ...]``, or a tuple of several.

        Raises:
            ArgumentError: The inputs are not of the planned shapes.
        """
        arrays = self._checked(inputs)
        count, part = len(arrays[0]), self.description.part
        parts = -(-count // part)
        # What is missing of the last part is computed on zeros and thrown away.
        if parts * part != count:
            arrays = [_longer(array, parts * part) for array in arrays]
        made = [
            np.empty((parts * port.shape[0], *port.shape[1:]), dtype=np.float32)
            for port in self.outputs
        ]
        self.run([array.ctypes.data for array in (*arrays, *made)], parts, threads)
        if parts * part != count:
            made = [
                array[: count * port.shape[0] // part]
                for array, port in zip(made, self.outputs, strict=True)
            ]
        return made[0] if len(made) == 1 else tuple(made)

    def run(self, addresses: Sequence[int], parts: int, threads: int) -> None:
        """Run with the addresses of contiguous float32 inputs, then outputs, that are large enough.

        Raises:
            MemoryError: There is no scratch memory.
        """
        code = self._start(self._call(self._handle, parts, threads, 0, *addresses))
        if code:
            fail(code, "the program")

    def profile(self, *inputs: npt.ArrayLike, repeats: int = 20) -> list[tuple[str, float]]:
        """Return each step's label and its median seconds for one part, on one thread."""
        arrays = [array[: self.description.part] for array in self._checked(inputs)]
        made = [np.empty(port.shape, dtype=np.float32) for port in self.outputs]
        labels = self.description.labels
        seconds = np.zeros((repeats, len(labels)), dtype=np.float64)
        ports = [array.ctypes.data for array in (*arrays, *made)]
        for row in seconds:
            code = self._start(self._call(self._handle, 1, 1, row.ctypes.data, *ports))
            if code:
                fail(code, "the program")
        return list(zip(labels, np.median(seconds, axis=0).tolist(), strict=True))

    def _checked(self, inputs: tuple[npt.ArrayLike, ...]) -> list[Floats]:
        if len(inputs) != len(self.inputs):
            raise ArgumentError(f"{len(inputs)} inputs were given: give {len(self.inputs)}")
        arrays = [np.ascontiguousarray(value, dtype=np.float32) for value in inputs]
        for array, port in zip(arrays, self.inputs, strict=True):
            if array.shape[1:] != port.shape[1:] or array.ndim == 0:
                raise ArgumentError(
                    f"input {port.name!r} has shape {list(array.shape)}: this program was planned "
                    f"for [n, {', '.join(map(str, port.shape[1:]))}]"
                )
            if len(array) != len(arrays[0]):
                raise ArgumentError(f"{len(array)} and {len(arrays[0])} examples: give as many")
        return arrays


def _longer(array: Floats, count: int) -> Floats:
    longer = np.zeros((count, *array.shape[1:]), dtype=np.float32)
    longer[: len(array)] = array
    return longer
