"""How a tensor's dimensions lie in a buffer: views cost nothing, only their bookkeeping.

A buffer has axes (images, channels, rows, columns). A dimension of a tensor is a sequence of
*atoms*, pieces of an axis, the slowest first. Reshaping regroups atoms, transposing permutes
dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mirrormask.deploy.runner.reasons import UnsupportedError

IMAGES, CHANNELS, ROWS, COLUMNS = range(4)


@dataclass(frozen=True)
class Atom:
    """``size`` places along an axis, ``step`` places apart."""

    axis: int
    size: int
    step: int


Dimension = tuple[Atom, ...]
Dimensions = tuple[Dimension, ...]


def whole(axis: int, size: int) -> Dimension:
    """Return the dimension that is a whole axis; one of size 1 has no atoms."""
    return (Atom(axis, size, 1),) if size > 1 else ()


def shape_of(dims: Dimensions) -> tuple[int, ...]:
    """Return the sizes of dimensions.

    Example:
        >>> shape_of((whole(0, 4), (), whole(1, 6)))
        (4, 1, 6)
    """
    return tuple(math.prod(atom.size for atom in dim) for dim in dims)


def reshaped(dims: Dimensions, shape: tuple[int, ...]) -> Dimensions:
    """Return the dimensions of the same tensor in another shape of as many elements.

    Raises:
        UnsupportedError: A new dimension would cut an atom into pieces that are no atoms.

    Example:
        >>> heads = reshaped((whole(0, 2), whole(1, 6)), (2, 3, 2))
        >>> heads[1:]
        ((Atom(axis=1, size=3, step=2),), (Atom(axis=1, size=2, step=1),))
        >>> reshaped(heads, (2, 6)) == (whole(0, 2), whole(1, 6))
        True
    """
    left = [atom for dim in dims for atom in dim]
    found: list[Dimension] = []
    for size in shape:
        dim: list[Atom] = []
        wanted = size
        while wanted > 1:
            atom = left.pop(0)
            if wanted % atom.size and atom.size % wanted:
                raise UnsupportedError(f"a reshape from {list(shape_of(dims))} to {list(shape)}")
            if atom.size > wanted:
                rest = atom.size // wanted
                left.insert(0, Atom(atom.axis, rest, atom.step))
                atom = Atom(atom.axis, wanted, atom.step * rest)
            wanted //= atom.size
            dim.append(atom)
        found.append(_joined(dim))
    return tuple(found)


def _joined(dim: list[Atom]) -> Dimension:
    """Return the dimension with neighbours that continue each other made one."""
    found: list[Atom] = []
    for atom in dim:
        before = found[-1] if found else None
        if before and before.axis == atom.axis and before.step == atom.step * atom.size:
            found[-1] = Atom(atom.axis, before.size * atom.size, atom.step)
        else:
            found.append(atom)
    return tuple(found)
