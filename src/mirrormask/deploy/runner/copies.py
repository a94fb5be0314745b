"""Copies between layouts as steps: few dimensions, the nearest in the target innermost."""

from __future__ import annotations

import math
from dataclasses import replace

from mirrormask.deploy.runner import operations as ops
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.storage import Port, Storage, View
from mirrormask.deploy.runner.views import Dimension
from mirrormask.runtime import steps
from mirrormask.runtime.steps import Place


def copy_steps(operation: ops.Move | ops.Join | ops.Split) -> list[steps.Step]:
    """Return the steps that copy tensors into another layout.

    Raises:
        UnsupportedError: There are too many dimensions.
    """
    match operation:
        case ops.Move():
            return [_move_step(operation)]
        case ops.Join():
            return _join_steps(operation)
        case ops.Split():
            return _split_steps(operation)


def _move_step(operation: ops.Move) -> steps.Step:
    pairs = _pairs(operation.source, operation.targets, operation.out)
    return _copy(operation.source.storage.place, operation.out, pairs, cleared=True)


def _join_steps(operation: ops.Join) -> list[steps.Step]:
    """Return the steps that copy tensors into parts of a buffer, the first of which clears it."""
    out = operation.out
    covered = sum(math.prod(piece.source.shape) for piece in operation.pieces)
    found: list[steps.Step] = []
    for piece in operation.pieces:
        copy = _copy(
            piece.source.storage.place,
            out,
            _pairs(piece.source, piece.targets, out),
            cleared=not found,
            offset=piece.begin * out.steps[piece.axis],
        )
        if not found and covered < math.prod(out.sizes):
            copy = replace(copy, zero_at=out.offset, zeros=out.floats)
        found.append(copy)
    return found


def _pairs(
    view: View, targets: tuple[Dimension, ...], out: Storage | Port
) -> list[tuple[int, int, int]]:
    """Return size, source step and target step of each piece of a dimension."""
    return [
        (atom.size, view.storage.steps[atom.axis] * atom.step, out.steps[target.axis] * target.step)
        for source, there in zip(view.dims, targets, strict=True)
        for atom, target in zip(source, there, strict=True)
    ]


def _copy(
    source: Place,
    out: Storage | Port,
    pairs: list[tuple[int, int, int]],
    *,
    cleared: bool,
    offset: int = 0,
) -> steps.Copy:
    """Return a copy along (size, source step, target step), the nearest in the target innermost."""
    pairs = _merged(sorted(pairs, key=lambda pair: (-pair[2], -pair[1])))
    if len(pairs) > steps.DIMENSIONS:
        raise UnsupportedError("a copy over more than five dimensions")
    full = [(1, 0, 0)] * (steps.DIMENSIONS - len(pairs)) + pairs
    storage = out if isinstance(out, Storage) else None
    # Only where there are gaps does anything have to be cleared.
    gaps = storage is not None and not (storage.gapless and storage.plane == storage.used)
    return steps.Copy(
        source=source,
        out=Place(space=out.place.space, offset=out.place.offset + offset),
        sizes=tuple(size for size, _, _ in full),
        source_steps=tuple(step for _, step, _ in full),
        out_steps=tuple(step for _, _, step in full),
        zero_at=storage.offset if storage is not None and cleared and gaps else 0,
        zeros=storage.floats if storage is not None and cleared and gaps else 0,
    )


def _merged(pairs: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return the same copy with dimensions that continue each other made one."""
    found: list[tuple[int, int, int]] = []
    for size, source, out in pairs:
        if size == 1:
            continue
        before = found[-1] if found else None
        if before and before[1] == source * size and before[2] == out * size:
            found[-1] = before[0] * size, source, out
        else:
            found.append((size, source, out))
    return found


def _split_steps(operation: ops.Split) -> list[steps.Step]:
    """Return the steps that split images into phases, one for each."""
    view, out = operation.source, operation.out
    source = view.storage
    assert isinstance(source, Storage)
    images, channels, rows, columns = source.sizes
    image, plane, row, column = source.steps
    down, across = out.stride
    found: list[steps.Step] = []
    for index, (a, b) in enumerate(out.phases):
        sizes = -(-(rows - a) // down), -(-(columns - b) // across)
        if min(sizes) < 1:
            continue
        pairs = [
            (images, image, out.steps[0]),
            (channels, plane, out.steps[1]),
            (sizes[0], row * down, out.steps[2]),
            (sizes[1], column * across, out.steps[3]),
        ]
        begin = Place(space=source.place.space, offset=source.place.offset + a * row + b * column)
        found.append(_copy(begin, out, pairs, cleared=not found, offset=index * out.plane))
    return found
