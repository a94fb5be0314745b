"""A model whose forward is programs with torch's operators between them, where that may be."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from mirrormask.deploy.runner.forward import may_run
from mirrormask.deploy.runner.joining import hold
from mirrormask.deploy.runner.splitting import Split


class SplitForward:
    """Stands for a model's ``forward``, as a ``ProgramForward`` does, for a model in parts.

    It runs for inputs of the planned types and sizes, a whole number of parts of the batch, in
    evaluation mode and without gradients. Everything else takes the model's own forward.
    """

    def __init__(self, model: nn.Module, split: Split) -> None:
        self._model, self.split = model, split
        # What most models return needs no search for tensors.
        self._single = isinstance(split.form, int)
        self._flat = type(split.form) is tuple and all(isinstance(x, int) for x in split.form)
        self._types = tuple(kind for kind, _ in split.inputs)
        self._sizes = tuple(sizes for _, sizes in split.inputs)
        _share_weights(split.graph, model)

    @property
    def part(self) -> int:
        """How many examples one run of a region works on."""
        return self.split.part

    @property
    def steps(self) -> int:
        """Of how many steps all regions consist."""
        return sum(len(region.program.description.steps) for region in self.split.regions)

    @property
    def nbytes(self) -> int:
        """Bytes of weights and indices besides the model's own tensors."""
        mine = {id(tensor) for tensor in (*self._model.parameters(), *self._model.buffers())}
        held = (*self.split.graph.parameters(), *self.split.graph.buffers())
        extra = sum(tensor.nbytes for tensor in held if id(tensor) not in mine)
        return extra + sum(region.program.nbytes for region in self.split.regions)

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """Compute the model."""
        values = self._in_order(inputs, keywords)
        if not may_run(self._model, values, self._types) or not self._fit(values):
            return type(self._model).forward(self._model, *inputs, **keywords)
        found = self.split.graph.forward(*values)
        if self._single:
            return found[0]
        return found if self._flat else tree_map(found.__getitem__, self.split.form)

    def _in_order(self, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, ...]:
        """Return all inputs as the graph takes them, or none of them if it does not."""
        names = self.split.names
        if len(keywords) != len(names) or any(name not in keywords for name in names):
            return ()
        return (*inputs, *(keywords[name] for name in names)) if names else inputs

    def _fit(self, inputs: tuple[torch.Tensor, ...]) -> bool:
        count = len(inputs[0]) if inputs[0].ndim else 0
        if not count or count % self.split.part:
            return False
        return all(
            value.shape == (count, *sizes) for value, sizes in zip(inputs, self._sizes, strict=True)
        )


def _share_weights(graph: nn.Module, model: nn.Module) -> None:
    """Hold the model's own tensors where they are the same memory: copies then share them too."""
    own = {_place(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for table in (graph._parameters, graph._buffers):
        for name, tensor in list(table.items()):
            mine = None if tensor is None else own.get(_place(tensor))
            if mine is not None:
                del table[name]
                hold(graph, name, mine)


def _place(tensor: torch.Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()
