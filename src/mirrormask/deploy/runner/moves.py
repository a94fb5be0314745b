"""Bring a tensor into the layout that its reader needs; the same copy serves all readers."""

from __future__ import annotations

import math

from mirrormask.deploy.runner.operations import Join, Move, Network, Piece, Split, Taps
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.storage import Storage, View, new_storage
from mirrormask.deploy.runner.views import (
    CHANNELS,
    COLUMNS,
    IMAGES,
    ROWS,
    Atom,
    Dimension,
    Dimensions,
    whole,
)

# What splitting images into the phases of a stride takes, of what convolutions outside of programs
# take to pack them, in percent: measured.
_SPLITTING = 57
# Which axis each dimension of a tensor becomes, by its rank: [n, features], [n, tokens, features]
# and [n, rows, columns, features] for what works on features, [n, channels, (rows,) columns] for
# images.
_FEATURES = {
    2: (IMAGES, CHANNELS),
    3: (IMAGES, COLUMNS, CHANNELS),
    4: (IMAGES, ROWS, COLUMNS, CHANNELS),
}
_IMAGES = {
    2: (IMAGES, CHANNELS),
    3: (IMAGES, CHANNELS, COLUMNS),
    4: (IMAGES, CHANNELS, ROWS, COLUMNS),
}


class Mover:
    """Adds copies to a network, and remembers them."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._moved: dict[tuple[object, ...], View] = {}
        self._split: dict[tuple[object, ...], Storage] = {}

    def as_image(self, view: View) -> View:
        """Return a tensor [n, channels, (rows,) columns] with exactly that in its buffer."""
        axes = _IMAGES.get(len(view.shape))
        if axes is None:
            raise UnsupportedError(f"images of shape {list(view.shape)}")
        return self._on_axes(view, axes)

    def as_features(self, view: View) -> View:
        """Return a tensor whose last dimension lies in the channels and nothing else does."""
        if isinstance(view.storage, Storage) and features_apart(view):
            return view
        return self._on_axes(view, self._feature_axes(view))

    def in_planes(self, view: View) -> View:
        """Return a tensor in planes of some kind: what it is, where it is not a port."""
        if isinstance(view.storage, Storage):
            return view
        rank = len(view.shape)
        return self.as_image(view) if rank == 4 else self.as_features(view)

    def like(self, view: View, other: View) -> View:
        """Return a tensor in the layout of another one of its shape."""
        assert isinstance(other.storage, Storage)
        return self.in_layout(view, other.storage.sizes, other.dims)

    def in_layout(self, view: View, sizes: tuple[int, int, int, int], dims: Dimensions) -> View:
        """Return a tensor in a buffer of given sizes, in which its dimensions lie as given."""
        storage = view.storage
        there = isinstance(storage, Storage) and storage.sizes == sizes and not _is_split(storage)
        if there and view.dims == dims:
            return view
        if any(len(dim) > 1 or (dim and dim[0].step != 1) for dim in dims):
            raise UnsupportedError("two tensors in different layouts")
        return self._move(view, sizes, dims)

    def join(self, views: list[View], axis: int, begins: list[int], shape: tuple[int, ...]) -> View:
        """Return a tensor with others in it, each from a place along one dimension on."""
        first = self.in_planes(views[0])
        # What lies in the channels of the first tells signals from tokens.
        signals = len(shape) == 3 and any(atom.axis == CHANNELS for atom in first.dims[1])
        axes = _IMAGES[len(shape)] if len(shape) == 4 or signals else _FEATURES[len(shape)]
        sizes = [1, 1, 1, 1]
        for place, size in zip(axes, shape, strict=True):
            sizes[place] = size
        out = new_storage((sizes[0], sizes[1], sizes[2], sizes[3]))
        pieces = [
            Piece(
                source=view,
                targets=tuple(
                    targets_of(dim, whole(place, size))
                    for dim, place, size in zip(view.dims, axes, view.shape, strict=True)
                ),
                axis=axes[axis],
                begin=begin,
            )
            for view, begin in zip(views, begins, strict=True)
        ]
        self._network.operations.append(Join(label="join", out=out, pieces=pieces))
        return View(storage=out, dims=tuple(whole(place, sizes[place]) for place in axes))

    def split(self, view: View, taps: Taps) -> Storage:
        """Return the phases of a stride of images, each with a buffer's planes of its own."""
        key = (id(view.storage), view.dims, taps.stride)
        if key not in self._split:
            images, channels, rows, columns = _sizes(view.shape)
            small = -(-rows // taps.stride[0]), -(-columns // taps.stride[1])
            out = new_storage((images, channels, *small))
            out.stride, out.phases = taps.stride, []
            operation = Split(label="split by strides", source=view, out=out)
            self._network.operations.append(operation)
            self._split[key] = out
        return self._split[key]

    def packing(self, view: View, taps: Taps, readers: int) -> int:
        """Return how much a convolution over planes has to copy before, in percent of its packing.

        Images in planes are padded already. Where a stride splits them, one copy of the phases
        serves all readers.
        """
        if not isinstance(view.storage, Storage):
            return 100
        if taps.stride == (1, 1) or (id(view.storage), view.dims, taps.stride) in self._split:
            return 0
        return _SPLITTING // readers

    def _feature_axes(self, view: View) -> tuple[int, ...]:
        rank = len(view.shape)
        if rank not in _FEATURES:
            raise UnsupportedError(f"features of shape {list(view.shape)}")
        return _FEATURES[rank]

    def _on_axes(self, view: View, axes: tuple[int, ...]) -> View:
        sizes = [1, 1, 1, 1]
        for axis, size in zip(axes, view.shape, strict=True):
            sizes[axis] = size
        full = (sizes[0], sizes[1], sizes[2], sizes[3])
        dims = tuple(whole(axis, full[axis]) for axis in axes)
        storage = view.storage
        if (
            isinstance(storage, Storage)
            and (view.dims, storage.sizes) == (dims, full)
            and not _is_split(storage)
        ):
            return view
        return self._move(view, full, dims)

    def _move(self, view: View, sizes: tuple[int, int, int, int], dims: Dimensions) -> View:
        key = (id(view.storage), view.dims, sizes, dims)
        if key not in self._moved:
            out = new_storage(sizes)
            targets = tuple(
                targets_of(source, dim) for source, dim in zip(view.dims, dims, strict=True)
            )
            self._network.operations.append(
                Move(label="copy", out=out, source=view, targets=targets)
            )
            self._moved[key] = View(storage=out, dims=dims)
        return self._moved[key]


def features_apart(view: View) -> bool:
    """Tell whether the last dimension alone lies in the channels, and covers them all."""
    storage = view.storage
    assert isinstance(storage, Storage)
    last = view.dims[-1]
    covered = math.prod(atom.size for atom in last) == storage.sizes[CHANNELS]
    others = [atom.axis for dim in view.dims[:-1] for atom in dim]
    return covered and all(atom.axis == CHANNELS for atom in last) and CHANNELS not in others


def targets_of(source: Dimension, target: Dimension) -> Dimension:
    """Return where each atom of a dimension goes in a target that is one atom, or none."""
    if not source:
        return ()
    if len(target) != 1:
        raise UnsupportedError("a copy between dimensions that are cut differently")
    found, step = [], target[0].step * target[0].size
    for atom in source:
        step //= atom.size
        found.append(Atom(target[0].axis, atom.size, step))
    return tuple(found)


def _is_split(storage: Storage) -> bool:
    return storage.stride != (1, 1)


def _sizes(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the sizes of an image tensor of 2 to 4 dimensions."""
    sizes = [1, 1, 1, 1]
    for axis, size in zip(_IMAGES[len(shape)], shape, strict=True):
        sizes[axis] = size
    return sizes[0], sizes[1], sizes[2], sizes[3]


def same_grid(storage: Storage, sizes: tuple[int, int, int, int]) -> Storage:
    """Return a new buffer on the grid of another one."""
    return new_storage(sizes, storage.grid)
