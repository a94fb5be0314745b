"""What is looked at before a run begins, on all ranks, and agreed upon; nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from mirrormask.optimizer import preconditions
from mirrormask.optimizer.engines import check_engine
from mirrormask.optimizer.recipe import Recipe
from mirrormask.optimizer.sharding import check_shards, describe
from mirrormask.ranks import Ranks
from mirrormask.selection import Target


def check(
    base: Optimizer,
    model: nn.Module,
    targets: Sequence[Target],
    recipe: Recipe,
    *,
    method: str,
    sparsity: float,
    steps: int,
    seed: int | None,
    ranks: Ranks,
) -> tuple[float, int, int]:
    """Return sparsity, steps and seed of a run that can be had, the same on all ranks.

    Raises:
        MirrormaskError: As ``SparseOptimizer`` says.
    """
    with ranks.refusing_together():
        sparsity, steps = preconditions.check_run(sparsity, steps)
        if seed is not None:
            preconditions.check_seed(seed)
        preconditions.check_base(base, targets)
        preconditions.check_base_can_move(base, recipe.geometry)
        check_engine(base, ((target.name, target.parameter) for target in targets))
        shapes = {target.name: target.layout.shape(target.parameter.shape) for target in targets}
        recipe.masking.pattern.check(shapes, sparsity)
        preconditions.check_finite((target.name, target.parameter) for target in targets)
        check_shards(recipe, base, targets, ranks)
    if ranks.size > 1:
        said = describe(base, model, targets, recipe)
        ranks.agree(said | {"method": method, "sparsity": sparsity, "steps": steps, "seed": seed})
    if seed is None:
        seed = int(ranks.gather(torch.initial_seed())[0])
    if not recipe.geometry.keeps_weight_decay:
        preconditions.warn_of_weight_decay(base.param_groups, targets, method)
    return sparsity, steps, seed
