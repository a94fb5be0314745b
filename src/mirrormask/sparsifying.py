"""The two lines that a training loop needs: ``sparsify`` before it, ``finalize`` after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.optim import Optimizer

from mirrormask.errors import ArgumentError
from mirrormask.methods import method as find_method
from mirrormask.optimizer import Recipe, SparseOptimizer
from mirrormask.optimizer.engines import unwrapped
from mirrormask.ranks import Ranks
from mirrormask.selection import Patterns, select

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def sparsify(
    optimizer: Optimizer,
    model: nn.Module,
    *,
    sparsity: float,
    steps: int,
    method: str | Recipe = "pilot",
    include: Patterns | None = None,
    exclude: Patterns | None = None,
    seed: int | None = None,
    process_group: ProcessGroup | None = None,
) -> SparseOptimizer:
    """Wrap an optimizer so that training ends in a model of exactly the sparsity asked for.

    Use what is returned in place of ``optimizer``, train as usual, and call its ``finalize`` at
    the end. By default all trainable weights of two or more dimensions share one global budget of
    zeros, apart from embeddings and normalisations.

    Args:
        optimizer: The optimizer of the model: SGD, Adam, AdamW, RMSprop or another first-order one.
        model: The model; its present weights are the start.
        sparsity: Fraction of zeros over the selected weights, in [0, 1).
        steps: Optimizer steps in the whole run.
        method: A name from :data:`mirrormask.METHODS`, or a :class:`mirrormask.Recipe`.
        include: Patterns of parameter or module names, or module types, to make sparse instead of
            the default.
        exclude: The same, to leave dense.
        seed: Of random masks, starts and growth, where the method draws any; by default that of
            torch's global generator, of that on the first rank where there are several; it is not
            advanced.
        process_group: Of ``torch.distributed``: the ranks that train this model together, all by
            default. They decide as one; wrap or shard the model first.

    Raises:
        ArgumentError: If a number or a method name is outside its domain.
        SelectionError: If a pattern matches nothing, or a selected weight cannot be made sparse.
        OptimizerError: If the optimizer cannot carry the method.
        NonFiniteError: If a selected weight is NaN or infinite.
        RankError: If ranks give different models, methods or numbers, or shard a weight in a way
            that the method cannot use.

    Example:
        >>> import torch
        >>> model = nn.Linear(10, 10)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> optimizer = sparsify(optimizer, model, sparsity=0.9, steps=20)
        >>> for _ in range(20):
        ...     loss = model(torch.randn(8, 10)).square().mean()
        ...     optimizer.zero_grad()
        ...     loss.backward()
        ...     optimizer.step()
        >>> optimizer.finalize().zeros
        90
    """
    ranks = Ranks(process_group)
    with ranks.refusing_together():
        _check_kinds(optimizer, model, method)
        if isinstance(method, Recipe):
            name, recipe = "custom", method
        else:
            name, recipe = method, find_method(method).recipe
        model = unwrapped(model)
        targets = select(model, include, exclude)
    return SparseOptimizer(
        optimizer,
        model,
        targets,
        recipe,
        method=name,
        sparsity=sparsity,
        steps=steps,
        seed=seed,
        ranks=ranks,
    )


def _check_kinds(optimizer: object, model: object, method: object) -> None:
    if isinstance(optimizer, SparseOptimizer):
        raise ArgumentError(
            "optimizer is wrapped by sparsify already: wrap a plain torch.optim optimizer."
        )
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"model is a {type(model).__name__}, not a torch.nn.Module: call sparsify(optimizer, "
            "model, ...) in this order."
        )
    if not isinstance(method, str | Recipe):
        raise ArgumentError(
            f"method={method!r} is neither a name nor a Recipe: use a name such as 'pilot', or "
            "mirrormask.Recipe(...)."
        )
