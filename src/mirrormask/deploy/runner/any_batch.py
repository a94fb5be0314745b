"""Read a model as a graph that holds for any number of examples, to be cut into parts.

Unlike the graph of a whole program, this one keeps operators that have no step, so that torch can
run them. It is functional: nothing in it changes a tensor, so that nodes may change their order.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from torch.utils._pytree import tree_unflatten

from mirrormask.deploy.runner.graph import (
    ModelProgram,
    exporting,
    gives_floats,
    operator_of,
    program_of_export,
)
from mirrormask.deploy.runner.reasons import PartError, UnsupportedError
from mirrormask.deploy.runner.rewriting import (
    drop_checks,
    folded,
    join_norms,
    read_sizes_early,
)

Size = int | Callable[[int], Any]


@dataclass(frozen=True, kw_only=True)
class OpenModel:
    """An exported model whose batch is a symbol, as which ``sizes`` of values depend on it.

    ``kept`` names the float32 tensors that hold as many numbers for each example: others have lost
    the examples on their way. ``batched`` names those of them whose first dimension is the batch,
    or a fixed multiple of it, while all others are fixed: a part of the batch is then a part of
    their memory. ``names`` are the keywords of the last inputs, ``form`` is what the model puts
    out, with the number of each tensor in its place.
    """

    module: fx.GraphModule
    constants: Mapping[str, torch.Tensor]
    outputs: tuple[str, ...]
    kept: frozenset[str]
    batched: frozenset[str]
    names: tuple[str, ...]
    form: Any
    sizes: Mapping[str, tuple[Size, ...]]

    def at_batch(self, batch: int, inputs: tuple[torch.Tensor, ...]) -> ModelProgram:
        """Return a copy of the graph whose values are known for so many examples.

        Raises:
            PartError: The graph does something else for so many.
        """
        module = copy.deepcopy(self.module)
        nodes = list(module.graph.nodes)
        values = self.arguments(tuple(value[:batch].contiguous() for value in inputs))
        with exporting():
            FakeTensorProp(module, FakeTensorMode(allow_non_fake_inputs=True)).propagate(*values)
        for node in nodes:
            if not _holds(node.meta.get("val"), self.sizes.get(node.name), batch):
                raise PartError(f"{operator_of(node)} that depends on the batch size")
        named = {node.name: node for node in nodes}
        return ModelProgram(
            nodes=tuple(node for node in nodes if node.op == "call_function"),
            constants=self.constants,
            inputs=tuple(
                node
                for node in nodes
                if node.op == "placeholder" and node.name not in self.constants
            ),
            outputs=tuple(named[name] for name in self.outputs),
        )

    def arguments(self, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        """Return what the graph takes: weights, then inputs, each at its place."""
        given = iter(inputs)
        return [
            self.constants[node.name] if node.name in self.constants else next(given)
            for node in self.module.graph.nodes
            if node.op == "placeholder"
        ]


def open_model(
    model: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    keywords: Mapping[str, torch.Tensor] | None = None,
) -> OpenModel:
    """Export a model in evaluation mode for any batch; ``inputs`` hold two examples or more.

    Raises:
        UnsupportedError: It cannot be exported, or its batch may not be of any size.
    """
    batch = torch.export.Dim("batch", min=1)
    shapes: Any = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
    keywords = dict(keywords or {})
    for value in (*inputs, *keywords.values()):
        shapes[value] = {0: batch}
    with exporting():
        exported = torch.export.export(model, inputs, keywords, strict=False, dynamic_shapes=shapes)
        # Without a table of decompositions this only makes the graph functional.
        exported = exported.run_decompositions({})
    program = program_of_export(exported, len(inputs) + len(keywords))
    module = exported.graph_module
    module.meta.clear()
    if any(node.op == "get_attr" for node in module.graph.nodes):
        raise UnsupportedError("control flow inside the graph")
    symbol = program.inputs[0].meta["val"].shape[0]
    if isinstance(symbol, int):
        raise UnsupportedError("a fixed batch size")
    drop_checks(module.graph)
    read_sizes_early(module.graph, program.inputs[0], symbol)
    join_norms(module.graph)
    constants = {**program.constants, **folded(module.graph, program.constants)}
    module.graph.eliminate_dead_code()
    module.recompile()
    values = {
        node.name: node.meta["val"]
        for node in module.graph.nodes
        if isinstance(node.meta.get("val"), torch.Tensor)
    }
    floats = [node for node in module.graph.nodes if gives_floats(node)]
    _, named = exported.call_spec.in_spec.children()
    return OpenModel(
        names=tuple(named.context),
        sizes={name: _sizes(value.shape, symbol) for name, value in values.items()},
        form=tree_unflatten(range(len(program.outputs)), exported.call_spec.out_spec),
        module=module,
        constants=constants,
        outputs=tuple(node.name for node in module.graph.output_node().args[0]),
        kept=frozenset(
            node.name for node in floats if _is_multiple(node.meta["val"].numel(), symbol)
        ),
        batched=frozenset(
            node.name
            for node in floats
            if all(isinstance(size, int) for size in node.meta["val"].shape[1:])
            and _is_multiple(_first(node.meta["val"]), symbol)
        ),
    )


def _sizes(shape: Iterable[Any], symbol: Any) -> tuple[Size, ...]:
    """Return sizes as numbers, or as what to compute from the batch."""

    def of_batch(size: Any) -> Size:
        if isinstance(size, int):
            return size
        expression = size.node.expr
        return lambda batch: expression.subs({symbol.node.expr: batch})

    return tuple(map(of_batch, shape))


def _holds(value: object, sizes: tuple[Size, ...] | None, batch: int) -> bool:
    """Tell whether a value for so many examples has the sizes that the open graph gives it."""
    if sizes is None or not isinstance(value, torch.Tensor):
        return sizes is None
    return tuple(value.shape) == tuple(
        size if isinstance(size, int) else int(size(batch)) for size in sizes
    )


def _first(value: torch.Tensor) -> Any:
    return value.shape[0] if value.ndim else 1


def _is_multiple(size: Any, symbol: Any) -> bool:
    """Tell whether a size is so many times the batch, whatever that is."""
    if isinstance(size, int):
        return False
    multiple = size.node.expr / symbol.node.expr
    return bool(multiple.is_number and multiple.is_integer and multiple.is_positive)
