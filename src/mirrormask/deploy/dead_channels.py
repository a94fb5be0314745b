"""Remove channels that unstructured sparsity left without effect.

A channel between two layers is dead when the second layer never reads it (a column of zeros), or
when the first layer never computes it (a row of zeros): then it carries a constant, which moves
into the bias of the second layer. Both are exact up to rounding. Only straight chains are touched:
layer, element-wise functions or pooling, layer, with one reader each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import fx, nn

from mirrormask.deploy.model_graph import ModelGraph, sole_user

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d)
_ELEMENTWISE_MODULES = (
    nn.Identity,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.ELU,
    nn.Hardswish,
    nn.Mish,
    nn.Softplus,
    nn.Identity,
    *_DROPOUTS,
)
_ELEMENTWISE_FUNCTIONS = (
    torch.relu,
    torch.tanh,
    torch.sigmoid,
    nnf.relu,
    nnf.relu6,
    nnf.gelu,
    nnf.silu,
    nnf.leaky_relu,
    nnf.elu,
    nnf.hardswish,
    nnf.mish,
    nnf.softplus,
    nnf.tanh,
    nnf.sigmoid,
)
_ELEMENTWISE_METHODS = ("relu", "tanh", "sigmoid")
_POOLS = (
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
)
_CONVS = (nn.Conv1d, nn.Conv2d)


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Two layers and what lies between them; ``flattened`` if images became rows on the way."""

    first: nn.Module
    second: nn.Module
    between: tuple[fx.Node, ...]
    flattened: bool


def remove_dead_channels(graph: ModelGraph) -> int:
    """Shrink the layers of ``graph.model`` in place and return how many channels went."""
    chains = find_chains(graph)
    removed = 0
    while True:
        # A channel that goes may leave the layer before it with nothing to compute for.
        before = removed
        for chain in reversed(chains):
            removed += _shrink(graph, chain)
        if removed == before:
            return removed


def find_chains(graph: ModelGraph) -> list[Chain]:
    """Return every straight chain between two layers that may be rewritten."""
    chains = []
    for node in graph.graph.nodes:
        first = graph.module(node)
        if type(first) not in (nn.Linear, *_CONVS) or not graph.is_free(node):
            continue
        if getattr(first, "groups", 1) != 1:
            continue
        chain = _follow(graph, node)
        if chain is not None:
            chains.append(chain)
    return chains


def _follow(graph: ModelGraph, start: fx.Node) -> Chain | None:
    first = graph.module(start)
    assert first is not None
    images, flattened = type(first) in _CONVS, False
    between: list[fx.Node] = []
    node = sole_user(start)
    previous = start
    while node is not None and node.args and node.args[0] is previous:
        module = graph.module(node)
        if type(module) in (nn.Linear, *_CONVS):
            rows = flattened or not images
            fits = rows == (type(module) is nn.Linear) and getattr(module, "groups", 1) == 1
            if not fits or not graph.is_free(node):
                return None
            assert module is not None
            return Chain(first=first, second=module, between=tuple(between), flattened=flattened)
        if is_elementwise(graph, node):
            between.append(node)
        elif images and not flattened and _is_flatten(graph, node):
            flattened = True
        elif not (images and not flattened and type(module) in _POOLS):
            return None
        previous, node = node, sole_user(node)
    return None


def is_elementwise(graph: ModelGraph, node: fx.Node) -> bool:
    """Tell whether a node maps each number to a number, by itself."""
    if sum(isinstance(arg, fx.Node) for arg in (*node.args, *node.kwargs.values())) != 1:
        return False
    if node.op == "call_module":
        return type(graph.module(node)) in _ELEMENTWISE_MODULES
    if node.op == "call_function":
        return node.target in _ELEMENTWISE_FUNCTIONS
    return node.op == "call_method" and node.target in _ELEMENTWISE_METHODS


def _is_flatten(graph: ModelGraph, node: fx.Node) -> bool:
    module = graph.module(node)
    if isinstance(module, nn.Flatten):
        return module.start_dim == 1 and module.end_dim == -1
    is_call = (node.op == "call_function" and node.target is torch.flatten) or (
        node.op == "call_method" and node.target == "flatten"
    )
    return is_call and (node.args[1:] == (1,) or node.kwargs == {"start_dim": 1})


def _shrink(graph: ModelGraph, chain: Chain) -> int:
    first, second = chain.first, chain.second
    assert isinstance(first, nn.Linear | nn.Conv1d | nn.Conv2d)
    assert isinstance(second, nn.Linear | nn.Conv1d | nn.Conv2d)
    channels = first.weight.shape[0]
    # [out, channels, everything that one channel feeds]
    reads = second.weight.reshape(second.weight.shape[0], channels, -1)
    unread = ~(reads != 0).any(dim=2).any(dim=0)
    constant = ~(first.weight != 0).reshape(channels, -1).any(dim=1)
    level = _constant_levels(graph, chain, first)
    if not _folds_constants(second):
        # A padded border holds zeros, not the constant: only a constant of zero may go.
        constant &= level == 0
    dead = unread | constant
    if bool(dead.all()):
        dead[0] = False
    if not bool(dead.any()):
        return 0
    shift = (reads.sum(dim=2) * level)[:, dead & ~unread].sum(dim=1)
    if bool((shift != 0).any()):
        bias = second.bias if second.bias is not None else torch.zeros(reads.shape[0])
        second.bias = nn.Parameter(bias + shift.to(second.weight.dtype), requires_grad=False)
    _keep_channels(first, second, reads, ~dead)
    return int(dead.sum())


def _constant_levels(
    graph: ModelGraph, chain: Chain, first: nn.Linear | nn.Conv1d | nn.Conv2d
) -> torch.Tensor:
    """Return what each channel would carry at the end of the chain if its row were all zeros."""
    if first.bias is None:
        level = first.weight.new_zeros(first.weight.shape[0])
    else:
        # A copy, because an in-place activation would otherwise write into the bias.
        level = first.bias.detach().clone()
    for node in chain.between:
        module = graph.module(node)
        rest = node.args[1:]
        if isinstance(module, _DROPOUTS):
            continue
        if module is not None:
            level = module(level)
        elif node.op == "call_method":
            level = getattr(level, str(node.target))()
        else:
            assert callable(node.target)
            kwargs = {**node.kwargs, "inplace": False} if "inplace" in node.kwargs else node.kwargs
            level = node.target(level, *rest, **kwargs)
    return level


def _folds_constants(second: nn.Module) -> bool:
    if isinstance(second, nn.Linear):
        return True
    assert isinstance(second, nn.Conv1d | nn.Conv2d)
    return second.padding_mode != "zeros" or not any(second._reversed_padding_repeated_twice)


def _keep_channels(
    first: nn.Linear | nn.Conv1d | nn.Conv2d,
    second: nn.Linear | nn.Conv1d | nn.Conv2d,
    reads: torch.Tensor,
    keep: torch.Tensor,
) -> None:
    first.weight = nn.Parameter(first.weight[keep].contiguous(), requires_grad=False)
    if first.bias is not None:
        first.bias = nn.Parameter(first.bias[keep].contiguous(), requires_grad=False)
    kept = int(keep.sum())
    if isinstance(second, nn.Linear):
        weight = reads[:, keep].reshape(reads.shape[0], -1)
        second.in_features = weight.shape[1]
    else:
        weight = second.weight[:, keep]
        second.in_channels = kept
    second.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    if isinstance(first, nn.Linear):
        first.out_features = kept
    else:
        first.out_channels = kept
