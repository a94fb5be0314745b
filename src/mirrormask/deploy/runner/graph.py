"""Read a model as a graph of torch's own operators, with its weights as arrays."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch._ops import OpOverload

from mirrormask.deploy.runner.operations import Array
from mirrormask.deploy.runner.reasons import UnsupportedError


@dataclass(frozen=True, kw_only=True)
class ModelProgram:
    """An exported model: nodes that compute, constants by name, and which nodes go in and out."""

    nodes: tuple[fx.Node, ...]
    constants: Mapping[str, torch.Tensor]
    inputs: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]


def read_model(model: nn.Module, inputs: tuple[Any, ...]) -> ModelProgram:
    """Export a model in evaluation mode at these inputs.

    Raises:
        UnsupportedError: It cannot be exported, or its inputs or outputs are no float32 tensors.
    """
    for value in inputs:
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float32 or value.ndim < 2:
            raise UnsupportedError("inputs that are no float32 tensors [n, ...]")
    with exporting():
        exported = torch.export.export(model, inputs, strict=False)
    return program_of_export(exported, len(inputs))


@contextlib.contextmanager
def exporting() -> Iterator[None]:
    """Keep what torch.export says to itself, and name what it raises.

    Raises:
        UnsupportedError: The model cannot be exported.
    """
    level = logging.root.manager.disable
    # What fails here is a finding for the report, not something for the user's terminal.
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    # Exporting runs the model's own code on stand-ins: it may raise anything at all.
    except Exception as error:
        raise UnsupportedError(
            f"a model that torch.export rejects ({type(error).__name__})"
        ) from None
    finally:
        logging.disable(level)


def program_of_export(exported: torch.export.ExportedProgram, count: int) -> ModelProgram:
    """Return an exported model of so many inputs as nodes and constants.

    Raises:
        UnsupportedError: It changes buffers or inputs, drops inputs or returns other than tensors.
    """
    signature = exported.graph_signature
    constants: dict[str, torch.Tensor] = {}
    tables = (
        signature.inputs_to_parameters,
        signature.inputs_to_buffers,
        signature.inputs_to_lifted_tensor_constants,
    )
    for table in tables:
        for name, target in table.items():
            held = exported.state_dict.get(target)
            constants[name] = exported.constants[target] if held is None else held
    if signature.buffers_to_mutate or signature.user_inputs_to_mutate:
        raise UnsupportedError("a model that changes its buffers or inputs")
    nodes = list(exported.graph.nodes)
    found = tuple(n for n in nodes if n.op == "placeholder" and n.name not in constants)
    if [node.name for node in found] != list(signature.user_inputs) or len(found) != count:
        raise UnsupportedError("inputs that the exported model drops")
    results = nodes[-1].args[0]
    if not results or not all(isinstance(result, fx.Node) for result in results):
        raise UnsupportedError("a model that returns other than tensors")
    computing = tuple(node for node in nodes if node.op == "call_function")
    if any(_changed(node) in found for node in computing):
        raise UnsupportedError("a model that changes its buffers or inputs")
    return ModelProgram(nodes=computing, constants=constants, inputs=found, outputs=tuple(results))


def _changed(node: fx.Node) -> Any:
    """Return the node whose memory a node changes, or None."""
    if not isinstance(node.target, OpOverload) or not node.target._schema.is_mutable:
        return None
    source: Any = node.args[0] if node.args else None
    while isinstance(source, fx.Node) and isinstance(source.target, OpOverload):
        if not source.target.is_view:
            break
        source = source.args[0]
    return source


def operator_of(node: fx.Node) -> str:
    """Return the name of a node's operator: torch's own without its namespace and overload."""
    if isinstance(node.target, OpOverload) and node.target.namespace == "aten":
        return node.target._schema.name.removeprefix("aten::")
    return str(getattr(node.target, "__name__", node.target))


def gives_floats(node: fx.Node) -> bool:
    """Tell whether a node's value is one float32 tensor, which a step can work on."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


def array_of(tensor: torch.Tensor) -> Array:
    """Return a weight as a float32 array.

    Raises:
        UnsupportedError: It has another type.
    """
    if tensor.dtype != torch.float32:
        raise UnsupportedError(f"weights of type {tensor.dtype}")
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


def arguments_of_node(node: fx.Node) -> dict[str, Any]:
    """Return a node's arguments by name, with the operator's defaults filled in."""
    schema = node.target._schema  # type: ignore[union-attr]
    found = {}
    for position, argument in enumerate(schema.arguments):
        if position < len(node.args) and not argument.kwarg_only:
            found[argument.name] = node.args[position]
        elif argument.name in node.kwargs:
            found[argument.name] = node.kwargs[argument.name]
        else:
            found[argument.name] = argument.default_value if argument.has_default_value() else None
    return found
