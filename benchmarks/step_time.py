"""Time a whole training step (forward, backward, optimizer) with and without latents.

The contenders of a model are timed in turn, one step each, in an order drawn anew for each round,
so that drift of the machine hits all alike; the result is the median over rounds of the ratio to
the plain optimizer in the same round, with its quartiles.

    python benchmarks/step_time.py --rounds 300 --out benchmarks/results/step_time.json
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

import mirrormask as mm
from mirrormask.geometry import Factors, Mirror
from mirrormask.masking import AtEnd
from mirrormask.pressure import Constant, SeekTarget
from mirrormask.study.models import build

BATCH = 128
CONTENDERS: dict[str, mm.Recipe | None] = {
    "plain": None,
    # A second plain contender shows what the method of measurement adds by itself.
    "plain again": None,
    "mirror": mm.Recipe(geometry=Mirror(), pressure=Constant(strength=1e-5), masking=AtEnd()),
    "factors": mm.Recipe(geometry=Factors(), pressure=Constant(strength=1e-5), masking=AtEnd()),
    "factors, seeking": mm.Recipe(geometry=Factors(), pressure=SeekTarget(), masking=AtEnd()),
}


def make_step(model_name: str, recipe: mm.Recipe | None, steps: int) -> Callable[[], float]:
    """Return a function that takes one training step and returns its seconds."""
    torch.manual_seed(0)
    model = build(model_name, in_channels=1, image_size=28, num_classes=10)
    images, labels = torch.randn(BATCH, 1, 28, 28), torch.randint(10, (BATCH,))
    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    if recipe is not None:
        optimizer = mm.sparsify(optimizer, model, sparsity=0.95, steps=steps, method=recipe)

    def step() -> float:
        began = time.perf_counter()
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(images), labels))
        optimizer.step()
        return time.perf_counter() - began

    return step


def measure(model_name: str, rounds: int, warmup: int) -> dict[str, Any]:
    """Return milliseconds and ratios of every contender on one model."""
    total = rounds + warmup
    steps = {name: make_step(model_name, recipe, total) for name, recipe in CONTENDERS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    shuffle = random.Random(0).shuffle
    for done in range(total):
        shuffle(order)
        for name in order:
            taken = steps[name]()
            if done >= warmup:
                seconds[name].append(taken)
    rows = {}
    for name, values in seconds.items():
        ratios = [a / b for a, b in zip(values, seconds["plain"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows[name] = {
            "median_ms": 1e3 * statistics.median(values),
            "ratio_median": middle,
            "ratio_quartiles": [low, high],
            "ratio_of_medians": statistics.median(values) / statistics.median(seconds["plain"]),
            "ms": [round(1e3 * value, 4) for value in values],
        }
        print(
            f"{model_name:12} {name:18} {rows[name]['median_ms']:8.2f} ms   x{middle:.3f} "
            f"[{low:.3f}, {high:.3f}]",
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", nargs="+", default=["cnn", "mlp-3x1024"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = {
        "script": "benchmarks/step_time.py",
        "torch": torch.__version__,
        "cpu": platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": options.threads,
        "batch": BATCH,
        "rounds": options.rounds,
        "models": {name: measure(name, options.rounds, options.warmup) for name in options.models},
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
