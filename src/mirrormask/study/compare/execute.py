"""Do one run: build, train, evaluate once, and say what came out."""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

import mirrormask as mm
from mirrormask.errors import ArgumentError, NonFiniteError, OptimizerError
from mirrormask.study.compare.equal_flops import equal_flops_epochs
from mirrormask.study.compare.memory import PeakMemory
from mirrormask.study.compare.plan import Result, Run, recipe_of, uses_adam
from mirrormask.study.compare.settings import CompareSettings
from mirrormask.study.compare.supply import Data, judge, limited, training_batches
from mirrormask.study.data import DATASETS, load
from mirrormask.study.fit import FitResult, fit
from mirrormask.study.image_folder import load_image_folder
from mirrormask.study.models import build
from mirrormask.study.order import stream_seed
from mirrormask.study.training_flops import ForwardFlops

Execute = Callable[[Run], Result]


def executor(settings: CompareSettings, folder: Path | None) -> Execute:
    """Return what does the runs of a comparison in this process; data are loaded once.

    Args:
        settings: Of the comparison.
        folder: Where long runs keep checkpoints; None for none.
    """
    torch.set_num_threads(settings.threads)

    @cache
    def data_of(name: str, root: str | None) -> Data:
        return load_data(name, root, settings.validation)

    def execute(run: Run) -> Result:
        problem = run.cell.problem
        data = limited(data_of(problem.data, problem.data_root), problem.images)
        return _execute(settings, run, data, folder)

    return execute


def load_data(name: str, root: str | None, validation: float) -> Data:
    """Load a data set by name, or list its files if it is one that is streamed."""
    if DATASETS[name].streamed:
        return load_image_folder(root, validation=validation)
    return load(name, root=root, validation=validation)


def _execute(settings: CompareSettings, run: Run, data: Data, folder: Path | None) -> Result:
    result: Result = {
        "outcome": "finished",
        "error": None,
        "accuracy": None,
        "loss": None,
        "train_accuracy": None,
        "chance": 1.0 / data.num_classes,
        "versions": versions(),
    }
    memory = PeakMemory()
    try:
        model, epochs, fitted = _train(settings, run, data, folder)
    except NonFiniteError as error:
        return result | {"outcome": "diverged", "error": str(error)}
    except (ArgumentError, OptimizerError) as error:
        return result | {"outcome": "refused", "error": str(error)}
    accuracy, loss = judge(model, data, run.phase, settings.device)
    report = fitted.report
    targets = [target.parameter for target in mm.selection.select(model)]
    return result | {
        "accuracy": accuracy,
        "loss": loss,
        "train_accuracy": fitted.train_accuracy,
        "epochs": epochs,
        "zeros": sum(int((p == 0).sum()) for p in targets),
        "weights": sum(p.numel() for p in targets),
        "zeros_by_tensor": {t.name: t.zeros for t in report.tensors} if report else {},
        "inference_flops_left": report.flops_left if report else 1.0,
        "flops": fitted.flops,
        "dense_flops": fitted.dense_flops,
        "state_bytes": fitted.state_bytes,
        "measured": {"seconds": round(fitted.seconds, 3), "peak_rss_bytes": memory.peak()},
    }


def _train(
    settings: CompareSettings, run: Run, data: Data, folder: Path | None
) -> tuple[nn.Module, int, FitResult]:
    problem = run.cell.problem
    torch.manual_seed(run.seed)
    model = build(
        problem.model,
        in_channels=data.in_channels,
        image_size=data.image_size,
        num_classes=data.num_classes,
    ).to(settings.device)
    # Paired: the first weights and what training draws are those of every method at this seed.
    torch.manual_seed(stream_seed(run.seed))
    batches = training_batches(data, problem, run.seed, settings.device)
    recipe = recipe_of(run.cell, run.knobs)
    epochs = problem.epochs
    if settings.budget == "flops" and recipe is not None:
        share = ForwardFlops.of(model, batches.example).share
        epochs = equal_flops_epochs(recipe, run.cell.sparsity, epochs, share)
    optimizer = _optimizer(run, model)
    if recipe is not None:
        optimizer = mm.sparsify(
            optimizer,
            model,
            sparsity=run.cell.sparsity,
            steps=epochs * len(batches),
            method=recipe,
            seed=run.seed,
        )
    checkpoint = None if folder is None else folder / f"{run.digest}.checkpoint"
    fitted = fit(
        model,
        batches,
        optimizer,
        epochs=epochs,
        checkpoint=checkpoint,
        rates=problem.rates(len(batches)),
        label_smoothing=problem.label_smoothing,
    )
    return model, epochs, fitted


def _optimizer(run: Run, model: nn.Module) -> Optimizer:
    problem = run.cell.problem
    recipe = recipe_of(run.cell, run.knobs)
    decay = problem.weight_decay
    if recipe is not None and not recipe.geometry.keeps_weight_decay:
        decay = 0.0  # the pressure takes its place
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if problem.optimizer == "adamw" or uses_adam(run.cell):
        return AdamW(groups, lr=run.lr)
    return SGD(groups, lr=run.lr, momentum=problem.momentum)


@cache
def versions() -> dict[str, str]:
    """Return what a result may depend on beside its settings."""
    return {
        "mirrormask": mm.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": platform.machine(),
    }
