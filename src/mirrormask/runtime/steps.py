"""The numbers of each step, in the order in which ``steps.h`` reads them.

Nothing here is trusted by the kernels: they check every number before the first run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

FIELDS = 40
UNIT = 8
DIMENSIONS = 5
POOL_MAX, POOL_MEAN, POOL_MEAN_INSIDE = range(3)
RELU, GELU, GELU_TANH, SILU, ADD, MULTIPLY, ADD_RELU, SUBTRACT = range(8)
SIGMOID, HARDSIGMOID, HARDSWISH, TANH, CLAMP, LEAKY_RELU, ELU = range(8, 15)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an operand begins: space 0 is the arena, then inputs, then outputs; -1 is none."""

    space: int = -1
    offset: int = 0


@dataclass(frozen=True, kw_only=True)
class MatrixAt:
    """A matrix among the program's arrays; ``bias`` is -1 where there is none."""

    rows: int
    starts: int
    columns: int
    nonzeros: int
    values: int
    bias: int = -1
    relu: int = 0


class Step:
    """What all steps share: they are written field by field."""

    kind: ClassVar[int]

    def numbers(self) -> list[int]:
        """Return the step as :data:`FIELDS` numbers."""
        found = [self.kind, *_flat(self)]
        return found + [0] * (FIELDS - len(found))


def _flat(record: object) -> list[int]:
    found: list[int] = []
    for entry in fields(record):  # type: ignore[arg-type]
        value = getattr(record, entry.name)
        if isinstance(value, Place | MatrixAt):
            found += _flat(value)
        elif isinstance(value, Sequence):
            found += value
        else:
            found.append(int(value))
    return found


@dataclass(frozen=True, kw_only=True)
class Copy(Step):
    """Copy five dimensions between any two layouts, after clearing part of the target."""

    kind = 1
    source: Place
    out: Place
    sizes: tuple[int, ...]
    source_steps: tuple[int, ...]
    out_steps: tuple[int, ...]
    zero_at: int = 0
    zeros: int = 0


@dataclass(frozen=True, kw_only=True)
class Planes(Step):
    """Sparse rows over planes of ``count`` positions: convolutions, and linear layers on tiles."""

    kind = 2
    source: Place
    out: Place
    add: Place
    matrix: MatrixAt
    count: int
    used: int
    out_step: int
    add_step: int
    front: int
    mask: int


@dataclass(frozen=True, kw_only=True)
class Convolution(Step):
    """A convolution of images anywhere: layouts are floats between images, channels and rows.

    ``pad`` is left, right, top, bottom. ``plane`` is the floats of an output plane with gaps that
    become zero, or 0 where there are none.
    """

    kind = 10
    source: Place
    out: Place
    add: Place
    matrix: MatrixAt
    size: tuple[int, int, int]
    images: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pad: tuple[int, int, int, int]
    source_layout: tuple[int, int, int]
    out_layout: tuple[int, int, int]
    add_layout: tuple[int, int, int]
    front: int
    plane: int


@dataclass(frozen=True, kw_only=True)
class Vector(Step):
    """Sparse rows for one position."""

    kind = 3
    source: Place
    out: Place
    add: Place
    matrix: MatrixAt


@dataclass(frozen=True, kw_only=True)
class Tile(Step):
    """Sparse rows for planes that lie without gaps, cut into blocks where that pays."""

    kind = 4
    source: Place
    out: Place
    add: Place
    matrix: MatrixAt
    width: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Pool(Step):
    """Largest value or mean of windows."""

    kind = 5
    source: Place
    out: Place
    what: int
    channels: int
    images: int
    size: tuple[int, int]
    out_size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: tuple[int, int]
    source_steps: tuple[int, int, int]
    out_steps: tuple[int, int, int]
    front: int


@dataclass(frozen=True, kw_only=True)
class Pointwise(Step):
    """One or two operands, position by position; some kinds have two ``parameters``."""

    kind = 6
    a: Place
    b: Place
    out: Place
    what: int
    planes: int
    count: int
    a_step: int
    b_step: int
    out_step: int
    front: int
    parameters: int = -1
    mask: int = -1


@dataclass(frozen=True, kw_only=True)
class Norm(Step):
    """LayerNorm over the planes."""

    kind = 7
    source: Place
    out: Place
    planes: int
    count: int
    source_step: int
    out_step: int
    weight: int
    bias: int
    epsilon: int
    front: int
    mask: int


@dataclass(frozen=True, kw_only=True)
class Attention(Step):
    """Scaled dot-product attention over planes of tokens."""

    kind = 8
    q: Place
    k: Place
    v: Place
    out: Place
    images: int
    heads: int
    depth: int
    value_depth: int
    queries: int
    keys: int
    q_step: int
    k_step: int
    v_step: int
    out_step: int
    scale: int
    causal: int


@dataclass(frozen=True, kw_only=True)
class Gate(Step):
    """Images of planes, each times one number of its own."""

    kind = 9
    source: Place
    gate: Place
    out: Place
    planes: int
    images: int
    image: int
    used: int
    source_step: int
    gate_step: int
    gate_image: int
    out_step: int
    front: int
