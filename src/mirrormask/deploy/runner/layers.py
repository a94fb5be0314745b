"""Add layers to a network: each function takes tensors of the model and returns what comes out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mirrormask.deploy.runner import operations as ops
from mirrormask.deploy.runner.moves import Mover, same_grid
from mirrormask.deploy.runner.operations import Array, Network, Taps
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.storage import Storage, View, image_dims, new_storage
from mirrormask.deploy.runner.tiling import as_it_is, is_in_tiles
from mirrormask.deploy.runner.views import CHANNELS, COLUMNS, IMAGES, ROWS, whole
from mirrormask.runtime import steps


class Builder:
    """A network under construction."""

    def __init__(self) -> None:
        self.network = Network()
        self.mover = Mover(self.network)

    def convolution(
        self,
        x: View,
        weight: Array,
        bias: Array | None,
        *,
        taps: Taps,
        groups: int,
        label: str,
        readers: int = 1,
    ) -> View:
        """Add a convolution of ``[n, c, h, w]`` or ``[n, c, w]``; weight ``[rows, c, kh, kw]``.

        ``readers`` is how many layers read what it reads.
        """
        rows = weight.reshape(len(weight), -1)
        images, channels, *height, width = x.shape
        shape = images, channels, height[0] if height else 1, width
        product: ops.Sparse | ops.Convolution
        packing = self.mover.packing(x, taps, readers)
        if is_in_tiles(shape, rows, taps, packing=packing):
            out = new_storage((images, len(rows), *_out_size(shape[ROWS:], taps)))
            product = ops.Convolution(
                label=label,
                source=x if as_it_is(x) else self.mover.as_image(x),
                out=out,
                weight=rows,
                bias=bias,
                taps=taps,
                groups=groups,
            )
        else:
            source, out = self._on_one_grid(self.mover.as_image(x), len(rows), taps)
            product = ops.Sparse(
                label=label,
                source=View(storage=source, dims=image_dims(source.sizes)),
                out=out,
                weight=rows,
                bias=bias,
                taps=taps,
                groups=groups,
            )
        self.network.operations.append(product)
        dims = image_dims(out.sizes)
        return View(storage=out, dims=dims if height else (dims[0], dims[1], dims[3]))

    def _on_one_grid(self, x: View, outputs: int, taps: Taps) -> tuple[Storage, Storage]:
        """Return buffers for the input and output of a convolution over planes."""
        source = x.storage
        assert isinstance(source, Storage)
        size = _out_size(source.sizes[ROWS:], taps)
        if taps.stride != (1, 1):
            source = self.mover.split(x, taps)
        out = same_grid(source, (source.sizes[IMAGES], outputs, *size))
        _make_room(source, size, taps)
        return source, out

    def linear(self, x: View, weight: Array, bias: Array | None, *, label: str) -> View:
        """Add a linear layer over the last dimension."""
        if math.prod(x.shape[:-1]) != 1:
            x = self.mover.as_features(x)
            source = x.storage
            assert isinstance(source, Storage)
            images, _, height, width = source.sizes
            out = same_grid(source, (images, len(weight), height, width))
        else:
            out = new_storage((1, len(weight), 1, 1))
        self.network.operations.append(
            ops.Sparse(
                label=label, source=x, out=out, weight=weight, bias=bias, features=x.dims[-1]
            )
        )
        return View(storage=out, dims=(*x.dims[:-1], whole(CHANNELS, len(weight))))

    def pool(self, x: View, taps: Taps, what: int, size: tuple[int, int], *, label: str) -> View:
        """Add pooling to a given output size."""
        flat = len(x.shape) == 3
        x = self.mover.as_image(x)
        source = x.storage
        assert isinstance(source, Storage)
        out = new_storage((source.sizes[IMAGES], source.sizes[CHANNELS], *size))
        self.network.operations.append(
            ops.Pooling(label=label, source=x, out=out, what=what, taps=taps)
        )
        dims = image_dims(out.sizes)
        return View(storage=out, dims=(dims[0], dims[1], dims[3]) if flat else dims)

    def mean(self, x: View, axes: Sequence[int], *, keep: bool, label: str) -> View:
        """Add a mean over dimensions that are whole rows and columns of images."""
        x = self.mover.in_planes(x)
        source = x.storage
        assert isinstance(source, Storage)
        lost = [x.dims[axis] for axis in axes]
        height, width = source.sizes[ROWS:]
        wanted = {atom for axis in (ROWS, COLUMNS) for atom in whole(axis, source.sizes[axis])}
        if {atom for dim in lost for atom in dim} != wanted:
            raise UnsupportedError("a mean over other dimensions than all rows and columns")
        taps = Taps(kernel=(height, width), stride=(1, 1), pad=(0, 0), dilation=(1, 1))
        whole_image = View(storage=source, dims=image_dims(source.sizes))
        out = self.pool(whole_image, taps, steps.POOL_MEAN, (1, 1), label=label).storage
        dims = [() if i in axes else dim for i, dim in enumerate(x.dims) if keep or i not in axes]
        return View(storage=out, dims=tuple(dims))

    def activation(
        self,
        x: View,
        what: int,
        *,
        label: str,
        parameters: tuple[float, float] | None = None,
        moves_zero: bool = False,
    ) -> View:
        """Add an activation, with its bounds or slope where it has any."""
        x = self.mover.in_planes(x)
        source = x.storage
        assert isinstance(source, Storage)
        out = same_grid(source, source.sizes)
        self.network.operations.append(
            ops.Pointwise(
                label=label,
                a=x,
                b=None,
                out=out,
                what=what,
                parameters=parameters,
                moves_zero=moves_zero,
            )
        )
        return View(storage=out, dims=x.dims)

    def gate(self, x: View, factors: View, *, label: str) -> View:
        """Add a product with one factor for each channel of each image, of size 1 elsewhere."""
        x = self.mover.in_planes(x)
        source = x.storage
        assert isinstance(source, Storage)
        images, channels = source.sizes[:2]
        dims = tuple(
            dim if size > 1 or not dim else ()
            for dim, size in zip(x.dims, factors.shape, strict=True)
        )
        if {atom for dim in dims for atom in dim} != {
            atom for axis in (IMAGES, CHANNELS) for atom in whole(axis, source.sizes[axis])
        }:
            raise UnsupportedError("a product with factors for other than images and channels")
        factors = self.mover.in_layout(factors, (images, channels, 1, 1), dims)
        out = same_grid(source, source.sizes)
        self.network.operations.append(ops.Gate(label=label, source=x, factors=factors, out=out))
        return View(storage=out, dims=x.dims)

    def pointwise(self, a: View, b: View, what: int, *, label: str) -> View:
        """Add a sum or product of two tensors of one shape."""
        if isinstance(a.storage, Storage):
            b = self.mover.like(b, a)
        else:
            b = self.mover.in_planes(b)
            a = self.mover.like(a, b)
        source = a.storage
        assert isinstance(source, Storage) and isinstance(b.storage, Storage)
        source.grid.link(b.storage.grid)
        out = same_grid(source, source.sizes)
        self.network.operations.append(ops.Pointwise(label=label, a=a, b=b, out=out, what=what))
        return View(storage=out, dims=a.dims)

    def scale(self, x: View, factor: Array, shift: Array, *, label: str) -> View:
        """Add a factor and a summand for each channel of a tensor's buffer, as a diagonal."""
        x = self.mover.in_planes(x)
        source = x.storage
        assert isinstance(source, Storage)
        out = same_grid(source, source.sizes)
        self.network.operations.append(
            ops.Sparse(
                label=label,
                source=View(storage=source, dims=image_dims(source.sizes)),
                out=out,
                weight=np.diag(factor).astype(np.float32),
                bias=shift.astype(np.float32),
                taps=Taps(kernel=(1, 1), stride=(1, 1), pad=(0, 0), dilation=(1, 1)),
            )
        )
        return View(storage=out, dims=x.dims)


def _out_size(size: Sequence[int], taps: Taps) -> tuple[int, int]:
    found = []
    for axis in range(2):
        room = size[axis] + 2 * taps.pad[axis] - taps.dilation[axis] * (taps.kernel[axis] - 1) - 1
        found.append(room // taps.stride[axis] + 1)
    return found[0], found[1]


def _make_room(source: Storage, size: tuple[int, int], taps: Taps) -> None:
    """Widen the grid so that every tap that leaves the image meets zeros."""
    lead, trail, needs = [0, 0], [0, 0], [0, 0]
    for axis in range(2):
        phases = set()
        for tap in range(taps.kernel[axis]):
            phase, shift = taps.shift(axis, tap)
            phases.add(phase)
            held = source.sizes[ROWS + axis]
            lead[axis] = max(lead[axis], -shift)
            trail[axis] = max(trail[axis], shift)
            needs[axis] = max(needs[axis], held + max(0, -shift, size[axis] + shift - held))
    source.grid.need(needs[0], needs[1])
    source.look_beyond((lead[0], lead[1]), (trail[0], trail[1]))
    _meet_phases(source, taps)


def _meet_phases(source: Storage, taps: Taps) -> None:
    if source.stride == (1, 1):
        return
    rows, columns = (
        sorted({taps.shift(axis, tap)[0] for tap in range(taps.kernel[axis])}) for axis in range(2)
    )
    source.phases = sorted({*source.phases, *((a, b) for a in rows for b in columns)})
