"""The two lines that a training loop needs: ``sparsify`` before it, ``finalize`` after it."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from mirrormask.errors import ArgumentError
from mirrormask.methods import method as find_method
from mirrormask.optimizer import Recipe, SparseOptimizer
from mirrormask.selection import Patterns, select


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
            torch's global generator, which is not advanced. Give all ranks the same.

    Raises:
        ArgumentError: If a number or a method name is outside its domain.
        SelectionError: If a pattern matches nothing, or a selected weight cannot be made sparse.
        OptimizerError: If the optimizer cannot carry the method.
        NonFiniteError: If a selected weight is NaN or infinite.

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
    if isinstance(optimizer, SparseOptimizer):
        raise ArgumentError(
            "optimizer is wrapped by sparsify already: wrap a plain torch.optim optimizer."
        )
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"model is a {type(model).__name__}, not a torch.nn.Module: call sparsify(optimizer, "
            "model, ...) in this order."
        )
    if isinstance(method, Recipe):
        name, recipe = "custom", method
    elif not isinstance(method, str):
        raise ArgumentError(
            f"method={method!r} is neither a name nor a Recipe: use a name such as 'pilot', or "
            "mirrormask.Recipe(...)."
        )
    else:
        name, recipe = method, find_method(method).recipe
    # A compiled model is another module around the same tensors, with other names for them.
    model = getattr(model, "_orig_mod", model)
    return SparseOptimizer(
        optimizer,
        model,
        select(model, include, exclude),
        recipe,
        method=name,
        sparsity=sparsity,
        steps=steps,
        seed=torch.initial_seed() if seed is None else seed,
    )
