"""Training steps after the mask is frozen: live weights against dense, masked dense and SparseLab.

python benchmarks/live_training.py

Whole steps (forward, backward, SGD with momentum) on one thread, interleaved. "dense" is the plain
model with its plain optimizer, "masked" the run of mirrormask.sparsify with its mask frozen,
"live" the same after go_live, "SparseLab" the model with sparselab.SparseLinear layers and the
plain optimizer, where that package is installed. Bytes are those of weights, latents, masks,
patterns and optimizer buffers of the linear layers. Raw figures go to
benchmarks/results/live_training.json.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import mirrormask as mm
from mirrormask.deploy.timing import interleave, machine
from mirrormask.live import go_live
from mirrormask.methods import method
from networks import Block, mlp

RESULT = Path(__file__).parent / "results" / "live_training.json"
LEVELS, BATCHES, ROUNDS = (0.9, 0.95, 0.99), (64, 128), 15
STEPS = 20_000  # more than are taken; the mask is frozen after two of them
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "MLP 1024-4096-1024": (mlp, (1024,)),
    "transformer block d=512, 16 tokens": (Block, (16, 512)),
}
Step = Callable[[], object]


def step_of(model: nn.Module, optimizer: Any, x: torch.Tensor) -> Step:
    target = torch.randn_like(x)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)


def frozen(make: Callable[[], nn.Module], sparsity: float, x: torch.Tensor) -> Any:
    """Return a model and its sparse optimizer, two steps on, with its mask frozen."""
    torch.manual_seed(0)
    model = make()
    recipe = method("pilot").recipe
    recipe = replace(
        recipe,
        pressure=replace(recipe.pressure, until=1e-4),  # type: ignore[call-arg]
        masking=replace(recipe.masking, begin=0.0, end=1e-4),  # type: ignore[call-arg]
    )
    optimizer = mm.sparsify(sgd(model), model, sparsity=sparsity, steps=STEPS, method=recipe)
    step = step_of(model, optimizer, x)
    step(), step(), step()
    return model, optimizer, step


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
    return model


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name, (make, shape) in MODELS.items():
        for sparsity in LEVELS:
            for batch in BATCHES:
                x = torch.randn(batch, *shape)
                torch.manual_seed(0)
                plain = make()
                runs: dict[str, Step] = {"dense": step_of(plain, sgd(plain), x)}
                runs["masked"] = frozen(make, sparsity, x)[2]
                _, optimizer, runs["live"] = frozen(make, sparsity, x)
                report = go_live(optimizer)
                other = with_sparselab(make(), sparsity)
                if other is not None:
                    runs["SparseLab"] = step_of(other, sgd(other), x)
                timings = interleave(runs, rounds=ROUNDS, block_ms=1.0)
                row: dict[str, Any] = {"model": name, "sparsity": sparsity, "batch": batch}
                row["milliseconds"] = {one: timings.median(one) for one in runs}
                for rival in [one for one in runs if one != "live"]:
                    ratio = timings.speedup("live", over=rival)
                    row[f"over {rival}"] = [ratio.median, ratio.low, ratio.high]
                dense = 8 * sum(p.numel() for p in plain.parameters() if p.ndim >= 2)
                row["bytes over dense"] = report.bytes_after / dense
                rows.append(row)
                text = ", ".join(
                    f"{row[key][0]:.2f}x ({row[key][1]:.2f}-{row[key][2]:.2f}) {key}"
                    for key in row
                    if key.startswith("over")
                )
                print(
                    f"{name:34} {sparsity:.0%} batch {batch:>3} "
                    f"{row['milliseconds']['live']:.2f} ms, {text}, "
                    f"{row['bytes over dense']:.3f} of the dense bytes",
                    flush=True,
                )
    RESULT.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    print("written", RESULT.name)


if __name__ == "__main__":
    main()
