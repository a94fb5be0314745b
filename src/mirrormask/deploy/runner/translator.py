"""The state of a translation, and the table of who translates which operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

from mirrormask.deploy.runner.fusing import Fuser
from mirrormask.deploy.runner.graph import (
    ModelProgram,
    arguments_of_node,
    array_of,
    gives_floats,
    operator_of,
)
from mirrormask.deploy.runner.layers import Builder
from mirrormask.deploy.runner.operations import Array, Move, Network
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.storage import Port, Storage, View, port_view
from mirrormask.deploy.runner.views import IMAGES

Handler = Callable[["Translator", fx.Node, dict[str, Any]], View]
HANDLERS: dict[str, Handler] = {}


def has_handler(node: fx.Node) -> bool:
    """Tell whether some step may do what a node does, depending on its arguments."""
    return isinstance(node.target, OpOverload) and operator_of(node) in HANDLERS


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Register a function for operators of these names."""

    def register(function: Handler) -> Handler:
        for name in names:
            HANDLERS[name] = function
        return function

    return register


def refuse(node: fx.Node) -> None:
    """Raise where no step does what a node does, whatever comes before it."""
    name = operator_of(node)
    if not has_handler(node):
        raise UnsupportedError(f"the operator {name}")
    if not gives_floats(node):
        raise UnsupportedError(f"{name} of other than float32 tensors")


class Translator:
    """The state of one translation: what tensor each node stands for."""

    def __init__(self, constants: Mapping[str, torch.Tensor]) -> None:
        self.constants, self.builder = constants, Builder()
        self.views: dict[fx.Node, View] = {}
        self.fuser = Fuser(self.builder, self.views)

    def run(self, program: ModelProgram, batch: int) -> Network:
        """Translate node by node, then copy the results out."""
        for node in program.inputs:
            if node.meta["val"].shape[0] != batch:
                raise UnsupportedError("inputs of different batch sizes")
            self.read(node)
        missing = {operator_of(node): None for node in program.nodes if not has_handler(node)}
        if missing:
            plural = "s" if len(missing) > 1 else ""
            raise UnsupportedError(f"the operator{plural} {', '.join(missing)}")
        for node in program.nodes:
            self.add(node)
        for node in program.outputs:
            if node.meta["val"].shape[:1] != (batch,):
                raise UnsupportedError("outputs whose first dimension is not the batch")
            self.write(node, batch)
        return self.builder.network

    def read(self, node: fx.Node) -> None:
        """Make a node's value an input of the network."""
        inputs = self.builder.network.inputs
        shape = tuple(node.meta["val"].shape)
        port = Port(name=node.name, shape=shape, space=1 + len(inputs))
        inputs.append(port)
        self.views[node] = port_view(port)

    def add(self, node: fx.Node) -> None:
        """Add what a node computes; after an error the translation is of no more use."""
        refuse(node)
        name = operator_of(node)
        view = HANDLERS[name](self, node, arguments_of_node(node))
        if view.shape != tuple(node.meta["val"].shape):
            raise UnsupportedError(f"{name} with these arguments")
        self.views[node] = view
        self._sign(node)

    def _sign(self, node: fx.Node) -> None:
        for operation in self.builder.network.operations:
            operation.origin = operation.origin or node.name

    def write(self, node: fx.Node, batch: int) -> None:
        """Make a node's value an output of the network, once all nodes are added."""
        network, view = self.builder.network, self.views[node]
        if not _begins_with_images(view, batch):
            raise UnsupportedError("outputs whose first dimension is not the batch")
        index = len(network.outputs)
        space = 1 + len(network.inputs) + index
        port = Port(name=f"output{index}", shape=view.shape, space=space)
        targets = tuple(_row_major(dim, axis) for axis, dim in enumerate(view.dims))
        network.outputs.append(port)
        network.operations.append(Move(label="copy out", out=port, source=view, targets=targets))
        self._sign(node)

    def view(self, node: Any) -> View:
        """Return the tensor that a node stands for."""
        if node not in self.views:
            raise UnsupportedError("constants among the activations")
        return self.views[node]

    def array(self, node: Any) -> Array | None:
        """Return the weight that a node stands for, or None for None."""
        if node is None:
            return None
        if not isinstance(node, fx.Node) or node.name not in self.constants:
            raise UnsupportedError("weights that are computed")
        return array_of(self.constants[node.name])


def _row_major(dim: Sequence[Any], axis: int) -> tuple[Any, ...]:
    found, step = [], math.prod(atom.size for atom in dim)
    for atom in dim:
        step //= atom.size
        found.append(type(atom)(axis, atom.size, step))
    return tuple(found)


def _begins_with_images(view: View, batch: int) -> bool:
    # Parts of a batch follow each other in an output only if the examples are what comes first.
    if batch == 1:
        return True
    storage = view.storage
    images = storage.sizes[IMAGES] if isinstance(storage, Storage) else storage.shape[0]
    first = view.dims[0][0] if view.dims and view.dims[0] else None
    if first is None or first.axis != IMAGES or first.size % batch:
        return False
    return first.size * first.step == images


def listed(value: Any) -> list[int]:
    """Return one or several sizes as a list."""
    return list(value) if isinstance(value, Sequence) else [value]


def pair(value: Any, flat: bool, default: int) -> tuple[int, int]:  # noqa: FBT001
    """Return sizes along rows and columns; signals have one row."""
    found = [int(item) for item in listed(value)]
    if flat:
        return default, found[0]
    return (found[0], found[0]) if len(found) == 1 else (found[0], found[1])
