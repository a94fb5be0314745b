"""Which runs can be had on weights that are sharded over ranks, and why others cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mirrormask.errors import RankError
from mirrormask.masking import Masking, StaticRandom, Unstructured
from mirrormask.masking.regrowth import Regrowth
from mirrormask.pressure import Pressure, SeekTarget, SparsityController
from mirrormask.ranks import Box, Ranks, bits_sum, is_sharded
from mirrormask.selection import Target

if TYPE_CHECKING:
    from mirrormask.optimizer.recipe import Recipe

WHOLE_TENSOR_BASES = ("Adafactor", "Muon")
"""Optimizers of torch whose step on one element depends on others of its tensor."""


def check_shards(recipe: Recipe, base: Optimizer, targets: Sequence[Target], ranks: Ranks) -> None:
    """Refuse, before anything is changed, what cannot be done on the shards of a weight.

    Raises:
        RankError: If a sharded weight lies on ranks or in a way that is not understood, or a part
            of the run would need whole weights.
    """
    sharded = [target.name for target in targets if is_sharded(target.parameter)]
    if not sharded:
        return
    for target in targets:
        parameter: Tensor = target.parameter
        if not is_sharded(parameter):
            continue
        try:
            box = Box.of(parameter)
        except RankError as error:
            raise RankError(
                f"Weight {target.name!r} cannot be made sparse: {error}; leave it out with "
                f"exclude={target.name!r}, or shard it with fully_shard alone."
            ) from error
        members = sorted(box.mesh.mesh.flatten().tolist())
        if members != sorted(ranks.members):
            raise RankError(
                f"Weight {target.name!r} is sharded over ranks {members}, and the run over "
                f"{ranks.members}: give sparsify the process_group of the ranks that hold it."
            )
    if (reason := _reason(recipe, base)) is not None:
        raise RankError(
            f"{reason}, and {sharded[0]!r} is sharded over ranks: use another method "
            "(pilot, for one), or DistributedDataParallel, where each rank has whole weights."
        )


def _reason(recipe: Recipe, base: Optimizer) -> str | None:
    geometry, masking, pressure = recipe.geometry, recipe.masking, recipe.pressure
    if not geometry.separable:
        return f"The geometry {geometry} starts or moves weights by what others of their tensor do"
    if type(masking.pattern) is not Unstructured:
        return f"The pattern {masking.pattern} chooses groups of weights, which shards may cut"
    if type(masking).choose not in (Masking.choose, StaticRandom.choose, Regrowth.choose):
        return f"{type(masking).__name__} chooses in a way of its own, made for whole tensors"
    known = (Pressure.measure, SeekTarget.measure, SparsityController.measure)
    if type(pressure).measure not in known:
        return f"{type(pressure).__name__} measures in a way of its own, made for whole tensors"
    whole = [k for k in WHOLE_TENSOR_BASES if isinstance(base, getattr(torch.optim, k, ()))]
    return f"The optimizer {whole[0]} looks across whole tensors" if whole else None


def describe(
    base: Optimizer, model: nn.Module, targets: Sequence[Target], recipe: Recipe
) -> dict[str, Any]:
    """Return what all ranks of a run have to have alike, for :meth:`Ranks.agree`."""
    whole = [target.parameter for target in targets if not is_sharded(target.parameter)]
    options = [
        [f"{key}={value}" for key, value in sorted(group.items()) if _plain(value)]
        for group in base.param_groups
    ]
    return {
        "the model": [_described(name, p) for name, p in model.named_parameters()],
        "the weights to make sparse": [target.name for target in targets],
        "the optimizer": [type(base).__name__, *(line for group in options for line in group)],
        "the recipe": repr(recipe),
        "the values of the first weights (wrap or load the model before sparsify)": bits_sum(whole),
    }


def _described(name: str, parameter: Tensor) -> str:
    placed = parameter.placements if is_sharded(parameter) else "whole"
    return f"{name}: {tuple(parameter.shape)} {parameter.dtype} {placed}"


def _plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
