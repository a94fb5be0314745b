"""Make an exported graph simpler before it is cut."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import fx

from mirrormask.deploy.runner.graph import operator_of
from mirrormask.deploy.runner.reasons import UnsupportedError

_NORM = "_native_batch_norm_legit_no_training"


def drop_checks(graph: fx.Graph) -> None:
    """Remove what only checks: the outputs are compared on two batches."""
    for node in reversed(graph.nodes):
        if (
            node.op == "call_function"
            and not node.users
            and operator_of(node).startswith("_assert")
        ):
            graph.erase_node(node)


def read_sizes_early(graph: fx.Graph, given: fx.Node, symbol: Any) -> None:
    """Take the batch from the input: what only asks for a size must not read an activation."""
    with graph.inserting_after(_last_placeholder(graph)):
        size = graph.call_function(torch.ops.aten.sym_size.int, (given, 0))
    size.meta["val"] = symbol
    for node in list(graph.nodes):
        if node.op != "call_function" or operator_of(node) != "sym_size" or node is size:
            continue
        value = node.meta["val"]
        if not isinstance(value, int) and value.node.expr == symbol.node.expr:
            node.replace_all_uses_with(size)
            graph.erase_node(node)


def join_norms(graph: fx.Graph) -> None:
    """Put BatchNorm back as one operator where making the graph functional took it apart."""
    for node in list(graph.nodes):
        if node.op != "call_function" or operator_of(node) != _NORM:
            continue
        x, weight, bias, mean, variance, momentum, epsilon = node.args
        with graph.inserting_before(node):
            whole = graph.call_function(
                torch.ops.aten.batch_norm.default,
                (x, weight, bias, mean, variance, False, momentum, epsilon, False),
            )
        whole.meta["val"] = node.meta["val"][0]
        for user in list(node.users):
            if user.target is not operator.getitem or user.args[1] != 0:
                raise UnsupportedError("BatchNorm whose statistics are read")
            user.replace_all_uses_with(whole)
            graph.erase_node(user)
        graph.erase_node(node)


def folded(graph: fx.Graph, constants: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Compute what depends on no input once, and make it constants; return these."""
    known: dict[fx.Node, torch.Tensor] = {
        node: constants[node.name]
        for node in graph.nodes
        if node.op == "placeholder" and node.name in constants
    }
    made: dict[str, torch.Tensor] = {}
    last = _last_placeholder(graph)
    for node in list(graph.nodes):
        if not _is_fixed(node, known):
            continue
        arguments, keywords = fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
        with torch.no_grad():
            value = cast(Any, node.target)(*arguments, **keywords)
        with graph.inserting_after(last):
            constant = graph.placeholder(f"folded_{node.name}")
        constant.meta["val"] = node.meta["val"]
        last = constant
        known[constant] = made[constant.name] = value
        node.replace_all_uses_with(constant)
        graph.erase_node(node)
    return made


def _last_placeholder(graph: fx.Graph) -> fx.Node:
    placeholders: list[fx.Node] = [node for node in graph.nodes if node.op == "placeholder"]
    return placeholders[-1]


def _is_fixed(node: fx.Node, known: Mapping[fx.Node, torch.Tensor]) -> bool:
    if node.op != "call_function" or not isinstance(node.meta.get("val"), torch.Tensor):
        return False
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    if torch.Tag.nondeterministic_seeded in node.target.tags:
        return False
    return all(source in known for source in node.all_input_nodes)
