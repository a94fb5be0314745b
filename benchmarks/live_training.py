"""Training steps after the mask is frozen: live weights against dense, masked dense and SparseLab.

python benchmarks/live_training.py [--models resnet20 cnn-small ..] [--levels 0.95 ..]

Whole steps (forward, backward, SGD with momentum) on one thread, interleaved. "dense" is the plain
model with its plain optimizer, "masked" the run of mirrormask.sparsify with its mask frozen,
"live" the same after go_live on the batch, "SparseLab" the model with sparselab.SparseLinear layers
and the plain optimizer, where that package is installed and the model has linear layers alone.
Bytes are those of weights, latents, masks, patterns and optimizer buffers of the targeted layers.

Linear models are frozen after two steps on noise: their layers cost what they weigh, wherever the
zeros are. The first convolutions of a network cost as much as the last with a fraction of the
weights, and a real mask cuts less of them. These networks are therefore trained by the default
method on the packaged Fashion-MNIST images, padded to 32 x 32 pixels for ResNet-20, until the mask
is frozen.

Raw figures go to benchmarks/results/live_training.json, in place of those of the same models and
levels.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import mirrormask as mm
from kept_memory import keep_freed_memory
from mirrormask.deploy.timing import interleave, machine
from mirrormask.live import go_live
from mirrormask.methods import method
from mirrormask.optimizer.timetable import is_settled
from mirrormask.study.data import load
from mirrormask.study.models import build
from networks import Block, mlp

RESULT = Path(__file__).parent / "results" / "live_training.json"
LEVELS, BATCHES, ROUNDS = (0.9, 0.95, 0.99), (64, 128), 15
# A run takes step after step: a turn has several, all but the first with warm caches.
BLOCK_MS = 30.0
# SparseLab keeps transposes by the id of a matrix, which the next one has if this one is gone.
KEPT: list[nn.Module] = []
Step = Callable[[], object]
Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Linears:
    """A model of linear layers, which maps inputs of a shape to outputs of the same."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    steps: int = 20_000  # more than are taken; the mask is frozen after two of them
    rate: float = 1e-3
    rival: bool = True

    def loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error."""
        return nn.functional.mse_loss(output, target)

    def batch(self, size: int) -> Batch:
        """Return noise, and other noise as its target."""
        return torch.randn(size, *self.shape), torch.randn(size, *self.shape)

    def optimizer(self, model: nn.Module, sparsity: float) -> Any:
        """Return a sparse optimizer whose masking is over at once."""
        recipe = method("pilot").recipe
        recipe = replace(
            recipe,
            pressure=replace(recipe.pressure, until=1e-4),  # type: ignore[call-arg]
            masking=replace(recipe.masking, begin=0.0, end=1e-4),  # type: ignore[call-arg]
            boost=None,
        )
        return mm.sparsify(
            sgd(model, self.rate), model, sparsity=sparsity, steps=self.steps, method=recipe
        )


@dataclass(frozen=True, kw_only=True)
class Convolutions:
    """One of the study's networks for images of Fashion-MNIST, trained for so many steps."""

    name: str
    size: int
    steps: int
    rate: float = 0.02
    rival: bool = False

    def make(self) -> nn.Module:
        """Build it."""
        return build(self.name, in_channels=1, image_size=self.size, num_classes=10)

    def loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy."""
        return nn.functional.cross_entropy(output, target)

    def batch(self, size: int) -> Batch:
        """Return random images with a margin, and their labels."""
        data, margin = load("fashion-mnist-10k").train, (self.size - 28) // 2
        chosen = torch.randint(len(data.images), (size,))
        return nn.functional.pad(data.images[chosen], [margin] * 4), data.labels[chosen]

    def optimizer(self, model: nn.Module, sparsity: float) -> Any:
        """Return the default sparse optimizer."""
        return mm.sparsify(sgd(model, self.rate), model, sparsity=sparsity, steps=self.steps)


CASES: dict[str, Linears | Convolutions] = {
    "MLP 1024-4096-1024": Linears(make=mlp, shape=(1024,)),
    "transformer block d=512, 16 tokens": Linears(make=Block, shape=(16, 512)),
    "cnn-small": Convolutions(name="cnn-small", size=28, steps=1000),
    "resnet20": Convolutions(name="resnet20", size=32, steps=300),
}


def step_of(case: Linears | Convolutions, model: nn.Module, optimizer: Any, batch: Batch) -> Step:
    x, target = batch

    def step() -> None:
        optimizer.zero_grad()
        case.loss(model(x), target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def sgd(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)


def frozen(case: Linears | Convolutions, sparsity: float) -> tuple[nn.Module, Any]:
    """Return a model and its sparse optimizer, with its mask frozen."""
    torch.manual_seed(0)
    model = case.make()
    optimizer = case.optimizer(model, sparsity)
    while not is_settled(optimizer):
        step_of(case, model, optimizer, case.batch(32))()
    return model, optimizer


def with_sparselab(model: nn.Module, sparsity: float) -> nn.Module | None:
    """Put that package's layers in place of the linear ones, if it is installed."""
    try:
        kind = importlib.import_module("sparselab").SparseLinear
    except ImportError:
        return None
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            owner, _, leaf = name.rpartition(".")
            twin = kind(module.in_features, module.out_features, sparsity=sparsity)
            setattr(model.get_submodule(owner), leaf, twin)
    KEPT.append(model)
    return model


def measure(name: str, sparsity: float) -> list[dict[str, Any]]:
    """Return a row of figures for each batch size."""
    case, rows = CASES[name], []
    start = frozen(case, sparsity)
    for size in BATCHES:
        batch = case.batch(size)
        plain = case.make()
        runs: dict[str, Step] = {"dense": step_of(case, plain, sgd(plain, case.rate), batch)}
        runs["masked"] = step_of(case, *copy.deepcopy(start), batch)
        model, optimizer = copy.deepcopy(start)
        report = go_live(optimizer, batch[0])
        runs["live"] = step_of(case, model, optimizer, batch)
        other = with_sparselab(case.make(), sparsity) if case.rival else None
        if other is not None:
            runs["SparseLab"] = step_of(case, other, sgd(other, case.rate), batch)
        timings = interleave(runs, rounds=ROUNDS, block_ms=BLOCK_MS)
        row: dict[str, Any] = {"model": name, "sparsity": sparsity, "batch": size}
        row["milliseconds"] = {one: timings.median(one) for one in runs}
        for rival in [one for one in runs if one != "live"]:
            ratio = timings.speedup("live", over=rival)
            row[f"over {rival}"] = [ratio.median, ratio.low, ratio.high]
        dense = 8 * sum(p.numel() for p in plain.parameters() if p.ndim >= 2)
        row["bytes over dense"] = report.bytes_after / dense
        row["layers"] = [
            {"name": a.name, "zeros": a.sparsity, "live": a.live, "reason": a.reason}
            for a in report.layers
        ]
        rows.append(row)
        text = ", ".join(
            f"{row[key][0]:.2f}x ({row[key][1]:.2f}-{row[key][2]:.2f}) {key}"
            for key in row
            if key.startswith("over")
        )
        print(
            f"{name:34} {sparsity:.0%} batch {size:>3} "
            f"{row['milliseconds']['live']:.2f} ms, {text}, "
            f"{row['bytes over dense']:.3f} of the dense bytes, "
            f"{len(report.live)} of {len(report.layers)} layers",
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--levels", nargs="+", type=float, choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--target", type=Path, default=RESULT, help="where the raw figures go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    before = json.loads(options.target.read_text())["rows"] if options.target.exists() else []
    rows = [row for row in before if row["model"] in CASES]
    for name in options.models:
        for sparsity in options.levels:
            fresh = measure(name, sparsity)
            rows = [row for row in rows if (row["model"], row["sparsity"]) != (name, sparsity)]
            rows += fresh
    order = {name: place for place, name in enumerate(CASES)}
    rows.sort(key=lambda row: (order[row["model"]], row["sparsity"], row["batch"]))
    options.target.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    print("written", options.target.name)


if __name__ == "__main__":
    main()
