"""What a model's graph allows: which layers feed which, and which may be rewritten.

The graph serves for analysis only; rewriting changes submodules of a copy, so that the model keeps
its class and its attributes.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass

import torch
from torch import fx, nn

from mirrormask.deploy.csr import CsrModule


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, CsrModule) or super().is_leaf_module(m, module_qualified_name)


@dataclass(frozen=True, kw_only=True)
class ModelGraph:
    """A traced model: its graph and the modules that are safe to rewrite, by qualified name."""

    model: nn.Module
    graph: fx.Graph
    free: frozenset[str]

    def module(self, node: fx.Node) -> nn.Module | None:
        """Return the module that a node calls, or None."""
        if node.op != "call_module":
            return None
        return self.model.get_submodule(str(node.target))

    def is_free(self, node: fx.Node) -> bool:
        """Tell whether the node is the only use of its module and of that module's tensors."""
        return node.op == "call_module" and str(node.target) in self.free


def trace(model: nn.Module) -> ModelGraph | str:
    """Return the model's graph, or in words why it has none."""
    try:
        graph = _Tracer().trace(model)
    # Tracing runs the model's own code on stand-ins: it may raise anything at all.
    except Exception as error:
        return f"its forward cannot be traced ({type(error).__name__})"
    calls = Counter(
        id(model.get_submodule(str(node.target)))
        for node in graph.nodes
        if node.op == "call_module"
    )
    owners = _owners(model, graph)
    free = [
        str(node.target)
        for node in graph.nodes
        if node.op == "call_module" and _only_use(model, str(node.target), calls, owners)
    ]
    return ModelGraph(model=model, graph=graph, free=frozenset(free))


def has_hooks(module: nn.Module) -> bool:
    """Tell whether foreign code runs around the module, so that a twin would not be the same."""
    tables = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(tables) or hasattr(module, "parametrizations")


def sole_user(node: fx.Node) -> fx.Node | None:
    """Return the one node that reads this one's value, or None if there are several."""
    if len(node.users) != 1:
        return None
    return next(iter(node.users))


def _only_use(model: nn.Module, name: str, calls: Counter[int], owners: Counter[int]) -> bool:
    module = model.get_submodule(name)
    tensors = [*module.parameters(), *module.buffers()]
    return (
        calls[id(module)] == 1
        and not has_hooks(module)
        and all(owners[id(tensor)] == 1 for tensor in tensors)
    )


def _owners(model: nn.Module, graph: fx.Graph) -> Counter[int]:
    """Count in how many places each tensor is held, or read past its module."""
    owners: Counter[int] = Counter()
    for module in model.modules():
        owners.update(id(tensor) for tensor in module._parameters.values() if tensor is not None)
        owners.update(id(tensor) for tensor in module._buffers.values() if tensor is not None)
    for node in graph.nodes:
        if node.op == "get_attr":
            owner, _, leaf = str(node.target).rpartition(".")
            owners[id(getattr(model.get_submodule(owner), leaf, None))] += 1
    return owners


def replace_module(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put ``new`` where ``name`` is, under every name that the old module goes by."""
    old = model.get_submodule(name)
    for parent in model.modules():
        for key, child in parent._modules.items():
            if child is old:
                parent._modules[key] = new


def share_copy(model: nn.Module) -> nn.Module:
    """Return a copy with modules of its own whose tensors share the original's memory.

    Sharing saves memory, and makes a copy exactly as fast as its original: large weights at
    another place in memory can be a fifth faster or slower.
    """
    memo: dict[int, object] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach()
    return copy.deepcopy(model, memo)


def storage_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's parameters and buffers, shared ones counted once."""
    seen: dict[int, int] = {}
    tensor: torch.Tensor
    for tensor in [*model.parameters(), *model.buffers()]:
        seen[id(tensor)] = tensor.numel() * tensor.itemsize
    return sum(seen.values())
