"""What the planned network does, operation by operation, before buffers have places."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mirrormask.deploy.runner.storage import Port, Storage, View
from mirrormask.deploy.runner.views import Dimension

Array = npt.NDArray[np.float32]


@dataclass(eq=False, kw_only=True)
class Operation:
    """One step to be: what it reads and the buffer that it fills.

    ``origin`` names the node of the exported graph that it is for.
    """

    label: str
    out: Storage | Port
    origin: str = ""

    def reads(self) -> list[Storage | Port]:
        """Return the buffers that are read."""
        raise NotImplementedError


@dataclass(eq=False, kw_only=True)
class Move(Operation):
    """Copy a tensor into another buffer: ``targets`` say where each source dimension goes."""

    source: View
    targets: tuple[Dimension, ...]

    def reads(self) -> list[Storage | Port]:
        """Return the buffers that are read."""
        return [self.source.storage]


@dataclass(eq=False, kw_only=True)
class Piece:
    """A tensor that is copied into part of a buffer, from ``begin`` along an axis on."""

    source: View
    targets: tuple[Dimension, ...]
    axis: int
    begin: int


@dataclass(eq=False, kw_only=True)
class Join(Operation):
    """Put tensors side by side; what none of them covers is zero."""

    out: Storage
    pieces: list[Piece]

    def reads(self) -> list[Storage | Port]:
        """Return the buffers that are read."""
        return [piece.source.storage for piece in self.pieces]


@dataclass(eq=False, kw_only=True)
class Split(Operation):
    """Split images into the phases of a stride; which ones, the output's readers decide."""

    source: View
    out: Storage

    def reads(self) -> list[Storage | Port]:
        """Return the buffers that are read."""
        return [self.source.storage]


@dataclass(eq=False, kw_only=True)
class Taps:
    """Where a convolution's weights find their pixels."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: tuple[int, int]

    def shift(self, axis: int, tap: int) -> tuple[int, int]:
        """Return the phase of a tap and how many of the phase's pixels away it is."""
        shift, phase = divmod(tap * self.dilation[axis] - self.pad[axis], self.stride[axis])
        return phase, shift


@dataclass(eq=False, kw_only=True)
class Product(Operation):
    """A product with a sparse weight ``[rows, columns]``, with what follows it on the way."""

    source: View
    weight: Array
    bias: Array | None
    groups: int = 1
    add: View | None = None
    relu: bool = False

    def reads(self) -> list[Storage | Port]:
        """Return the buffers that are read."""
        added = [] if self.add is None else [self.add.storage]
        return [self.source.storage, *added]


@dataclass(eq=False, kw_only=True)
class Sparse(Product):
    """A linear layer or a convolution over planes that share a grid.

    ``taps`` is None for a linear layer, whose inputs ``features`` say where each column lies.
    """

    out: Storage
    taps: Taps | None = None
    features: Dimension = ()


@dataclass(eq=False, kw_only=True)
class Convolution(Product):
    """A convolution in tiles, which reads and writes images wherever they lie."""

    taps: Taps


@dataclass(eq=False, kw_only=True)
class Pooling(Operation):
    """Largest value or mean of windows."""

    source: View
    out: Storage
    what: int
    taps: Taps

    def reads(self) -> list[Storage | Port]:
        """Return the buffers that are read."""
        return [self.source.storage]


@dataclass(eq=False, kw_only=True)
class Pointwise(Operation):
    """An activation, or two tensors put together position by position.

    ``parameters`` are an activation's bounds, or its slope. ``moves_zero`` says that it makes
    something of zeros, so that the gaps between images have to be cleared.
    """

    a: View
    b: View | None
    out: Storage
    what: int
    parameters: tuple[float, float] | None = None
    moves_zero: bool = False

    def reads(self) -> list[Storage | Port]:
        """Return the buffers that are read."""
        return [view.storage for view in (self.a, self.b) if view is not None]


@dataclass(eq=False, kw_only=True)
class Gate(Operation):
    """A tensor times one number for each image and channel: ``factors`` are ``[n, c, 1, 1]``."""

    source: View
    factors: View
    out: Storage

    def reads(self) -> list[Storage | Port]:
        """Return the buffers that are read."""
        return [self.source.storage, self.factors.storage]


@dataclass(eq=False, kw_only=True)
class Norm(Operation):
    """LayerNorm over the channels."""

    source: View
    out: Storage
    weight: Array | None
    bias: Array | None
    epsilon: float

    def reads(self) -> list[Storage | Port]:
        """Return the buffers that are read."""
        return [self.source.storage]


@dataclass(eq=False, kw_only=True)
class Attention(Operation):
    """Scaled dot-product attention."""

    q: View
    k: View
    v: View
    out: Storage
    heads: int
    scale: float
    causal: bool

    def reads(self) -> list[Storage | Port]:
        """Return the buffers that are read."""
        return [self.q.storage, self.k.storage, self.v.storage]


@dataclass(eq=False, kw_only=True)
class Network:
    """The operations in order, with inputs and outputs."""

    operations: list[Operation] = field(default_factory=list)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
