"""The state of a translation, and the table of who translates which operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import fx

from mirrormask.deploy.runner.fusing import Fuser
from mirrormask.deploy.runner.graph import ModelProgram, arguments_of_node, array_of
from mirrormask.deploy.runner.layers import Builder
from mirrormask.deploy.runner.operations import Array, Move, Network
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.storage import Port, View, port_view
from mirrormask.deploy.runner.views import IMAGES, whole

Handler = Callable[["Translator", fx.Node, dict[str, Any]], View]
HANDLERS: dict[str, Handler] = {}


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Register a function for operators of these names."""

    def register(function: Handler) -> Handler:
        for name in names:
            HANDLERS[name] = function
        return function

    return register


class Translator:
    """The state of one translation: what tensor each node stands for."""

    def __init__(self, program: ModelProgram) -> None:
        self.program, self.builder = program, Builder()
        self.views: dict[fx.Node, View] = {}
        self.fuser = Fuser(self.builder, self.views)

    def run(self, batch: int) -> Network:
        """Translate node by node, then copy the results out."""
        network = self.builder.network
        for node in self.program.inputs:
            shape = tuple(node.meta["val"].shape)
            if shape[0] != batch:
                raise UnsupportedError("inputs of different batch sizes")
            port = Port(name=node.name, shape=shape, space=1 + len(network.inputs))
            network.inputs.append(port)
            self.views[node] = port_view(port)
        for node in self.program.nodes:
            name = str(node.target).split(".")[1]
            handler = HANDLERS.get(name)
            if handler is None or not str(node.target).startswith("aten."):
                raise UnsupportedError(f"the operator {name}")
            view = handler(self, node, arguments_of_node(node))
            if view.shape != tuple(node.meta["val"].shape):
                raise UnsupportedError(f"{name} with these arguments")
            self.views[node] = view
        for index, node in enumerate(self.program.outputs):
            view = self.views[node]
            if not view.shape or view.shape[0] != batch or not _begins_with_images(view, batch):
                raise UnsupportedError("outputs whose first dimension is not the batch")
            space = 1 + len(network.inputs) + index
            port = Port(name=f"output{index}", shape=view.shape, space=space)
            targets = tuple(_row_major(dim, axis) for axis, dim in enumerate(view.dims))
            network.outputs.append(port)
            network.operations.append(
                Move(label="copy out", out=port, source=view, targets=targets)
            )
        return network

    def view(self, node: Any) -> View:
        """Return the tensor that a node stands for."""
        if node not in self.views:
            raise UnsupportedError("constants among the activations")
        return self.views[node]

    def array(self, node: Any) -> Array | None:
        """Return the weight that a node stands for, or None for None."""
        if node is None:
            return None
        if not isinstance(node, fx.Node) or node.name not in self.program.constants:
            raise UnsupportedError("weights that are computed")
        return array_of(self.program.constants[node.name])


def _row_major(dim: Sequence[Any], axis: int) -> tuple[Any, ...]:
    found, step = [], math.prod(atom.size for atom in dim)
    for atom in dim:
        step //= atom.size
        found.append(type(atom)(axis, atom.size, step))
    return tuple(found)


def _begins_with_images(view: View, batch: int) -> bool:
    # Parts of a batch follow each other in an output only if the batch is what comes first.
    if batch == 1:
        return True
    return view.dims[0] == whole(IMAGES, batch)


def listed(value: Any) -> list[int]:
    """Return one or several sizes as a list."""
    return list(value) if isinstance(value, Sequence) else [value]


def pair(value: Any, flat: bool, default: int) -> tuple[int, int]:  # noqa: FBT001
    """Return sizes along rows and columns; signals have one row."""
    found = [int(item) for item in listed(value)]
    if flat:
        return default, found[0]
    return (found[0], found[0]) if len(found) == 1 else (found[0], found[1])
