"""What a program is before it runs: steps, weights and ports as plain arrays, numpy only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Where the nonzeros of a weight ``[rows, width]`` are, and where each column finds its input.

    ``starts`` has rows + 1 entries, ``columns`` one for each nonzero, increasing within a row.
    ``places`` has one entry a column: floats from an output's own place to that column's input.
    """

    starts: Ints
    columns: Ints
    places: Ints

    @property
    def size(self) -> int:
        """Integers that the matrix takes among the program's indices."""
        return self.starts.size + self.columns.size


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input or output: its name and its shape, whose first dimension is one part of a batch."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Description:
    """A network that was planned for one size of input.

    ``steps`` is ``[count, 40]``, as ``steps.h`` reads them. Their indices count in the masks, then
    in starts and columns of each matrix in turn. ``labels`` name the steps for people. ``arena`` is
    the floats of all activations together.
    """

    steps: Longs
    constants: Floats
    masks: Ints
    matrices: tuple[Matrix, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    arena: int
    labels: tuple[str, ...]
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def part(self) -> int:
        """How many examples of a batch one run works on."""
        return self.inputs[0].shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the weights and indices in memory."""
        integers = self.masks.size + sum(matrix.size for matrix in self.matrices)
        return self.constants.nbytes + self.steps.nbytes + 4 * integers

    def indices(self) -> Ints:
        """Return all integers that the steps point into, in one array."""
        return np.concatenate([self.masks, *self._matrix_arrays(), np.zeros(1, dtype=np.int32)])

    def _matrix_arrays(self) -> Iterator[Ints]:
        for matrix in self.matrices:
            yield matrix.starts
            yield matrix.places[matrix.columns]
