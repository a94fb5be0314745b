"""Write a network down as steps, now that every buffer has its place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mirrormask.deploy.runner import operations as ops
from mirrormask.deploy.runner.arena import place_buffers
from mirrormask.deploy.runner.copies import copy_steps
from mirrormask.deploy.runner.image_steps import gate_step, pool_step
from mirrormask.deploy.runner.operations import Network, Operation
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.storage import Port, Storage, View
from mirrormask.deploy.runner.tiling import join_single, layout_of, pads_of, write_outputs
from mirrormask.deploy.runner.views import CHANNELS, COLUMNS, IMAGES
from mirrormask.deploy.runner.weights import Weights, numbered, places_of
from mirrormask.runtime import description, steps
from mirrormask.runtime.steps import Place

# Tiles that the block kernels take: whole widths of theirs.
_TILES = (8, 16, 32)
_WIDE_TILE = 64


def emit(network: Network) -> description.Description:
    """Return the planned network as arrays.

    Raises:
        UnsupportedError: A buffer is larger than 32-bit places reach.
    """
    join_single(network)
    write_outputs(network)
    arena = place_buffers(network.operations)
    writer = _Writer()
    for operation in network.operations:
        writer.add(operation)
    return writer.finished(network, arena)


class _Writer:
    def __init__(self) -> None:
        self.weights = Weights()
        self.steps: list[steps.Step] = []
        self.labels: list[str] = []

    def add(self, operation: Operation) -> None:
        """Append the steps of one operation."""
        before = len(self.steps)
        try:
            self._add(operation)
        except UnsupportedError as reason:
            raise UnsupportedError(str(reason), operator=operation.origin) from None
        self.labels += [operation.label] * (len(self.steps) - before)

    def _add(self, operation: Operation) -> None:
        match operation:
            case ops.Move() | ops.Join() | ops.Split():
                self.steps += copy_steps(operation)
            case ops.Sparse():
                self.steps.append(self._sparse(operation))
            case ops.Convolution():
                self.steps.append(self._convolution(operation))
            case ops.Pooling():
                self.steps.append(pool_step(operation))
            case ops.Pointwise():
                self.steps.append(self._pointwise(operation))
            case ops.Gate():
                self.steps.append(gate_step(operation))
            case ops.Norm():
                self.steps.append(self._norm(operation))
            case ops.Attention():
                self.steps.append(self._attention(operation))
            case _:
                raise UnsupportedError(type(operation).__name__)

    def finished(self, network: Network, arena: int) -> description.Description:
        """Return everything as arrays, with the matrices behind the masks."""
        masks = self.weights.masks()
        table = [_behind(step, masks.size).numbers() for step in self.steps]
        return description.Description(
            steps=np.array(table, dtype=np.int64).reshape(len(table), steps.FIELDS),
            constants=self.weights.constants(),
            masks=masks,
            matrices=tuple(self.weights.matrices),
            inputs=_ports(network.inputs),
            outputs=_ports(network.outputs),
            arena=arena,
            labels=tuple(self.labels),
        )

    def _sparse(self, operation: ops.Sparse) -> steps.Step:
        source, out, add = operation.source.storage, operation.out, operation.add
        added = Place() if add is None else add.storage.place
        tile = _is_tile(operation)
        places = numbered(operation) if tile else places_of(operation)
        matrix = self.weights.matrix(operation, places)
        if out.grid.positions == 1:
            return steps.Vector(source=source.place, out=out.place, add=added, matrix=matrix)
        if tile:
            return steps.Tile(
                source=source.place,
                out=out.place,
                add=added,
                matrix=matrix,
                width=operation.weight.shape[1],
                count=out.plane,
            )
        return steps.Planes(
            source=source.place,
            out=out.place,
            add=added,
            matrix=matrix,
            count=out.plane,
            used=out.used,
            out_step=out.plane,
            add_step=0 if add is None else add.storage.steps[CHANNELS],
            front=out.front,
            mask=self.weights.mask(out),
        )

    def _convolution(self, operation: ops.Convolution) -> steps.Step:
        source, out, add = operation.source, operation.out, operation.add
        taps = operation.taps
        gaps = isinstance(out, Storage) and not (out.gapless and out.used == out.plane)
        images, channels, *rows, columns = source.shape
        return steps.Convolution(
            source=source.storage.place,
            out=out.place,
            add=Place() if add is None else add.storage.place,
            matrix=self.weights.matrix(operation, numbered(operation)),
            size=(channels, rows[0] if rows else 1, columns),
            images=images,
            kernel=taps.kernel,
            stride=taps.stride,
            dilation=taps.dilation,
            pad=pads_of(taps),
            source_layout=layout_of(source.storage),
            out_layout=layout_of(out),
            add_layout=(0, 0, 0) if add is None else layout_of(add.storage),
            front=out.front if isinstance(out, Storage) else 0,
            plane=out.plane if isinstance(out, Storage) and gaps else 0,
        )

    def _pointwise(self, operation: ops.Pointwise) -> steps.Step:
        a, b, out = operation.a.storage, operation.b, operation.out
        assert isinstance(a, Storage)
        given = operation.parameters
        parameters = None if given is None else np.array(given, dtype=np.float32)
        return steps.Pointwise(
            a=a.place,
            b=Place() if b is None else b.storage.place,
            out=out.place,
            what=operation.what,
            planes=out.sizes[CHANNELS],
            count=min(out.plane, a.plane) if out.plane > 1 else 1,
            a_step=a.plane,
            b_step=0 if b is None else b.storage.steps[CHANNELS],
            out_step=out.plane,
            front=out.front,
            parameters=self.weights.numbers(parameters),
            mask=self.weights.mask(out) if operation.moves_zero else -1,
        )

    def _norm(self, operation: ops.Norm) -> steps.Step:
        source, out = operation.source.storage, operation.out
        assert isinstance(source, Storage)
        return steps.Norm(
            source=source.place,
            out=out.place,
            planes=out.sizes[CHANNELS],
            count=out.used,
            source_step=source.plane,
            out_step=out.plane,
            weight=self.weights.numbers(operation.weight),
            bias=self.weights.numbers(operation.bias),
            epsilon=self.weights.numbers(np.array([operation.epsilon], dtype=np.float32)),
            front=out.front,
            mask=self.weights.mask(out),
        )

    def _attention(self, operation: ops.Attention) -> steps.Step:
        q, k, v = (_gapless(view) for view in (operation.q, operation.k, operation.v))
        return steps.Attention(
            q=q.place,
            k=k.place,
            v=v.place,
            out=operation.out.place,
            images=q.sizes[IMAGES],
            heads=operation.heads,
            depth=q.sizes[CHANNELS] // operation.heads,
            value_depth=v.sizes[CHANNELS] // operation.heads,
            queries=q.sizes[COLUMNS],
            keys=k.sizes[COLUMNS],
            q_step=q.plane,
            k_step=k.plane,
            v_step=v.plane,
            out_step=operation.out.plane,
            scale=self.weights.numbers(np.array([operation.scale], dtype=np.float32)),
            causal=int(operation.causal),
        )


def _is_tile(operation: ops.Sparse) -> bool:
    """Tell whether a linear layer's planes are tiles without gaps or rounding."""
    source, out = operation.source.storage, operation.out
    if operation.taps is not None or not isinstance(source, Storage) or len(source.phases) > 1:
        return False
    features = operation.features
    if len(features) != 1 or features[0].step != 1 or out.front or not out.gapless:
        return False
    count = out.plane
    wide = count in _TILES or count % _WIDE_TILE == 0
    added = operation.add is None or operation.add.storage.steps[CHANNELS] == count
    return wide and count == source.plane == out.grid.positions and added and source.gapless


def _behind(step: steps.Step, masks: int) -> steps.Step:
    """Return a step whose matrix lies behind so many integers of masks."""
    if not isinstance(step, steps.Planes | steps.Vector | steps.Tile | steps.Convolution):
        return step
    matrix = step.matrix
    moved = replace(matrix, starts=matrix.starts + masks, columns=matrix.columns + masks)
    return replace(step, matrix=moved)


def _ports(ports: list[Port]) -> tuple[description.Port, ...]:
    return tuple(description.Port(name=port.name, shape=port.shape) for port in ports)


def _gapless(view: View) -> Storage:
    storage = view.storage
    assert isinstance(storage, Storage)
    if not storage.gapless:
        raise UnsupportedError("attention between padded convolutions")
    return storage
