"""What a comparison will cost, told before it starts: runs, epochs, images, weights, FLOPs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from rich.console import Console
from rich.table import Table

import mirrormask as mm
from mirrormask.study.compare.equal_flops import equal_flops_epochs, mean_sparsity
from mirrormask.study.compare.execute import load_data
from mirrormask.study.compare.plan import recipe_of
from mirrormask.study.compare.problem import Problem
from mirrormask.study.compare.settings import Cell, CompareSettings
from mirrormask.study.compare.supply import Data
from mirrormask.study.data import DATASETS, Kind
from mirrormask.study.models import build
from mirrormask.study.training_flops import PASSES, ForwardFlops


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What decides the cost of a data set.

    Attributes:
        images: For training, before any are held out.
        channels: Of an image.
        image_size: Height and width.
        classes: To tell apart.
    """

    images: int
    channels: int
    image_size: int
    classes: int

    @classmethod
    def of(cls, data: Data) -> Sizes:
        """Return those of data that were loaded."""
        return cls(
            images=len(data.train.labels) + len(data.validation.labels),
            channels=data.in_channels,
            image_size=data.image_size,
            classes=data.num_classes,
        )


PUBLISHED: Mapping[str, Sizes] = MappingProxyType(
    {
        "cifar10": Sizes(images=50_000, channels=3, image_size=32, classes=10),
        "cifar100": Sizes(images=50_000, channels=3, image_size=32, classes=100),
        "image-folder": Sizes(images=1_281_167, channels=3, image_size=224, classes=1000),
    }
)
"""Of data sets that lie where the user has them; folders of images are taken for ImageNet."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of all runs of one method on one problem.

    Attributes:
        problem: Name of the problem.
        method: Name of the method.
        runs: How many, tuning and final.
        epochs: Of all runs.
        images: That all runs see in training, an image counted in each epoch.
        weights: That the method may cut.
        parameters: Of the whole model.
        flops: Of training without masks.
        masked_flops: Of training without masked weights, if all layers were equally sparse.
    """

    problem: str
    method: str
    runs: int
    epochs: int
    images: int
    weights: int
    parameters: int
    flops: float
    masked_flops: float


def planned_cost(settings: CompareSettings, sizes: Mapping[str, Sizes]) -> list[Cost]:
    """Return what each method costs on each problem, if nothing is done yet.

    A training step is three forward passes. What a method computes beside them, evaluation and the
    refreshing of BatchNorm are left out.

    Args:
        settings: Of the comparison.
        sizes: Of each data set, by its name.
    """
    models = {p.name: _measure(p, sizes[p.data]) for p in settings.problems}
    rows: dict[tuple[str, str], Cost] = {}
    for cell in settings.cells:
        key = (cell.problem.name, cell.method)
        own = _cost(cell, settings, sizes[cell.problem.data], models[cell.problem.name])
        before = rows.get(key)
        rows[key] = own if before is None else _together(before, own)
    return list(rows.values())


@dataclass(frozen=True, kw_only=True)
class _Model:
    weights: int
    parameters: int
    forward: ForwardFlops


def _measure(problem: Problem, sizes: Sizes) -> _Model:
    with torch.random.fork_rng():
        model = build(
            problem.model,
            in_channels=sizes.channels,
            image_size=sizes.image_size,
            num_classes=sizes.classes,
        )
        forward = ForwardFlops.of(model, _example(problem, sizes))
    return _Model(
        weights=sum(target.parameter.numel() for target in mm.selection.select(model)),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        forward=forward,
    )


def _example(problem: Problem, sizes: Sizes) -> torch.Tensor:
    size = sizes.image_size
    kind = DATASETS[problem.data].kind
    if kind == "text":
        return torch.zeros(1, size, dtype=torch.int64)
    return torch.zeros(1, sizes.channels, *([size] if kind == "signals" else [size, size]))


def _cost(cell: Cell, settings: CompareSettings, sizes: Sizes, model: _Model) -> Cost:
    problem = cell.problem
    held_out = round(settings.validation * sizes.images)
    images = min(problem.images or math.inf, sizes.images - held_out)
    runs = settings.tuning_runs + len(settings.seeds)
    recipe = recipe_of(cell, {})
    epochs, in_force = problem.epochs, 0.0
    if recipe is not None:
        if settings.budget == "flops":
            epochs = equal_flops_epochs(recipe, cell.sparsity, epochs, model.forward.share)
        in_force = mean_sparsity(recipe, cell.sparsity)
    seen = runs * epochs * int(images)
    flops = float(PASSES * model.forward.total * seen)
    return Cost(
        problem=problem.name,
        method=cell.method,
        runs=runs,
        epochs=runs * epochs,
        images=seen,
        weights=model.weights,
        parameters=model.parameters,
        flops=flops,
        masked_flops=flops * (1.0 - model.forward.share * in_force),
    )


def _together(one: Cost, other: Cost) -> Cost:
    return Cost(
        problem=one.problem,
        method=one.method,
        runs=one.runs + other.runs,
        epochs=one.epochs + other.epochs,
        images=one.images + other.images,
        weights=one.weights,
        parameters=one.parameters,
        flops=one.flops + other.flops,
        masked_flops=one.masked_flops + other.masked_flops,
    )


def cost_table(costs: list[Cost]) -> Table:
    """Return the costs for a terminal, with a line for all of them."""
    table = Table(title="Planned cost of the whole comparison")
    for title in ("problem", "method"):
        table.add_column(title)
    for title in ("runs", "epochs", "images", "weights", "FLOPs", "FLOPs without masked weights"):
        table.add_column(title, justify="right")
    for cost in costs:
        table.add_row(
            cost.problem,
            cost.method,
            *(f"{n:,}" for n in (cost.runs, cost.epochs, cost.images, cost.weights)),
            *(f"{n:.3g}" for n in (cost.flops, cost.masked_flops)),
        )
    table.add_section()
    table.add_row(
        "all",
        "",
        *(f"{sum(n):,}" for n in zip(*((c.runs, c.epochs, c.images) for c in costs), strict=True)),
        "",
        *(f"{sum(n):.3g}" for n in zip(*((c.flops, c.masked_flops) for c in costs), strict=True)),
    )
    return table


def print_plan(settings: CompareSettings, console: Console, *, begins: bool) -> None:
    """Print what a comparison will cost, and what its settings chose where a paper says nothing.

    Args:
        settings: Of the comparison.
        console: Where to print.
        begins: Whether it starts right after. Then its data must be there; otherwise, without a
            place for them, their published sizes are taken.

    Raises:
        DataError: If data cannot be read.
    """
    sizes = {
        p.data: PUBLISHED[p.data]
        if not begins and p.data_root is None and p.data in PUBLISHED
        else Sizes.of(load_data(p.data, p.data_root, settings.validation))
        for p in settings.problems
    }
    console.print(cost_table(planned_cost(settings, sizes)))
    for problem in settings.problems:
        what = _in_words(sizes[problem.data], DATASETS[problem.data].kind)
        console.print(f"{problem.name}: {what}, {problem.model}", highlight=False)
    if settings.ours:
        console.print("What the paper leaves open, and what stands here for it:")
        for name, choice in settings.ours:
            console.print(f"  {name}: {choice}", highlight=False, markup=False)


def _in_words(sizes: Sizes, kind: Kind) -> str:
    size, classes = sizes.image_size, sizes.classes
    if kind == "text":
        return f"{sizes.images:,} training texts of {size} out of {classes} characters"
    extent = f"images of {size}x{size}" if kind == "images" else f"signals of length {size}"
    return f"{sizes.images:,} training {extent}, {classes} classes"
