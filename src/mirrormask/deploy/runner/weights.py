"""The constant arrays of a program: sparse matrices with their columns' places, masks, numbers."""

from __future__ import annotations

import numpy as np

from mirrormask.deploy.runner.operations import Array, Product, Sparse
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.storage import Storage
from mirrormask.runtime.description import Floats, Ints, Matrix
from mirrormask.runtime.steps import MatrixAt


class Weights:
    """Collects what the steps point at."""

    def __init__(self) -> None:
        self.matrices: list[Matrix] = []
        self._floats: list[Floats] = []
        self._masks: list[Ints] = []
        self._mask_of: dict[tuple[int, ...], int] = {}
        self._float_count = self._mask_count = 0
        # Matrices lie behind all masks, whose number is known only in the end.
        self._matrix_ints = 0

    def numbers(self, values: Array | None) -> int:
        """Keep floats and return where they are; -1 for None."""
        if values is None:
            return -1
        self._floats.append(np.ascontiguousarray(values, dtype=np.float32).reshape(-1))
        self._float_count += values.size
        return self._float_count - values.size

    def matrix(self, operation: Product, places: Ints) -> MatrixAt:
        """Keep a product's nonzeros; its places still lack the masks that come before."""
        weight = _spread(operation)
        rows, columns = np.nonzero(weight)
        starts = np.zeros(len(weight) + 1, dtype=np.int32)
        np.cumsum(np.bincount(rows, minlength=len(weight)), out=starts[1:])
        matrix = Matrix(starts=starts, columns=columns.astype(np.int32), places=places)
        self.matrices.append(matrix)
        begin = self._matrix_ints
        self._matrix_ints += matrix.size
        return MatrixAt(
            rows=len(weight),
            starts=begin,
            columns=begin + starts.size,
            nonzeros=columns.size,
            values=self.numbers(weight[rows, columns]),
            bias=self.numbers(operation.bias),
            relu=int(operation.relu),
        )

    def mask(self, storage: Storage) -> int:
        """Keep which positions of a plane are pixels, and return where; -1 if all are."""
        if storage.gapless:
            return -1
        images, _, rows, columns = storage.sizes
        grid = storage.grid
        key = (images, grid.lines, grid.pitch, rows, columns, storage.plane)
        if key not in self._mask_of:
            mask = np.zeros((images, grid.lines, grid.pitch), dtype=np.int32)
            mask[:, :rows, :columns] = -1
            padded = np.zeros(storage.plane, dtype=np.int32)
            padded[: mask.size] = mask.reshape(-1)
            self._masks.append(padded)
            self._mask_of[key] = self._mask_count
            self._mask_count += padded.size
        return self._mask_of[key]

    def constants(self) -> Floats:
        """Return all floats."""
        return np.concatenate([*self._floats, np.zeros(1, dtype=np.float32)])

    def masks(self) -> Ints:
        """Return all masks."""
        return np.concatenate([*self._masks, np.zeros(0, dtype=np.int32)])


def _spread(operation: Product) -> Array:
    """Return the weight with a column for each input of the whole layer, whatever its groups."""
    if operation.groups == 1:
        return operation.weight
    rows, width = operation.weight.shape
    wide = np.zeros((rows, width * operation.groups), dtype=np.float32)
    share = rows // operation.groups
    for group in range(operation.groups):
        part = slice(group * share, (group + 1) * share)
        wide[part, group * width : (group + 1) * width] = operation.weight[part]
    return wide


def numbered(operation: Product) -> Ints:
    """Return the columns as they are, for steps that know where their inputs lie."""
    return np.arange(operation.weight.shape[1] * operation.groups, dtype=np.int32)


def places_of(operation: Sparse) -> Ints:
    """Return for each column how many floats from an output's own place its input lies."""
    if operation.taps is None:
        return _feature_places(operation)
    source, taps = operation.source.storage, operation.taps
    assert isinstance(source, Storage)
    along = np.zeros((taps.kernel[0], taps.kernel[1]), dtype=np.int64)
    for row in range(taps.kernel[0]):
        for column in range(taps.kernel[1]):
            (a, down), (b, right) = taps.shift(0, row), taps.shift(1, column)
            phase = source.phases.index((a, b))
            along[row, column] = phase * source.plane + down * source.grid.pitch + right
    channels = np.arange(source.sizes[1], dtype=np.int64) * source.steps[1]
    return _small(channels[:, None] + along.reshape(1, -1))


def _feature_places(operation: Sparse) -> Ints:
    places = np.zeros(1, dtype=np.int64)
    steps = operation.source.storage.steps
    for atom in operation.features:
        along = np.arange(atom.size, dtype=np.int64) * (atom.step * steps[atom.axis])
        places = (places[:, None] + along).reshape(-1)
    return _small(places)


def _small(places: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Ints:
    if np.abs(places).max(initial=0) >= 2**31:
        raise UnsupportedError("activations that 32-bit places do not reach")
    return places.reshape(-1).astype(np.int32)
