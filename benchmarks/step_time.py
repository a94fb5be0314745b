r"""Time a whole training step (forward, backward, optimizer) with and without latents.

The contenders of a model are timed in turn, one step each, in an order drawn anew for each round,
so that drift of the machine hits all alike. Forward and backward are the same work for all, and by
far the largest part, whose noise says nothing about optimizers: ``ratio`` is that of the medians of
the optimizers' own time, each with the median of forward and backward over all contenders added.
``whole_ratio`` is the plain median, over rounds, of the ratio of whole steps, with its quartiles.

    python benchmarks/step_time.py --models transformer-1m transformer-10m --bases sgd adamw \
        --rounds 12 --out benchmarks/results/step_time.json

Measurements that are in the file already, of other models or bases, stay there.
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
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

import mirrormask as mm
from mirrormask.geometry import Factors, Mirror, ScaledMirror
from mirrormask.masking import AtEnd
from mirrormask.pressure import Constant
from mirrormask.study.fit import state_bytes
from mirrormask.study.models import build
from mirrormask.study.transformer import Transformer

IMAGES = 128
SEQUENCES, LENGTH, VOCABULARY = 8, 128, 512
TRANSFORMERS = {  # width, layers
    "transformer-1m": (192, 2),
    "transformer-10m": (512, 3),
    "transformer-100m": (1024, 8),
}
PROXIMAL = Constant(strength=1e-5, application="proximal")
RECIPES: dict[str, mm.Recipe | None] = {
    "plain": None,
    # A second plain contender shows what the method of measurement adds by itself.
    "plain again": None,
    "mirror": mm.Recipe(geometry=Mirror(), pressure=Constant(strength=1e-5), masking=AtEnd()),
    "factors": mm.Recipe(geometry=Factors(), pressure=Constant(strength=1e-5), masking=AtEnd()),
    # As the methods ``pilot-mirror``, ``pilot-factors`` and ``pilot`` press, in the first half, the
    # last of them with the squared gradients that its cuts go by.
    "mirror, proximal": mm.Recipe(geometry=Mirror(), pressure=PROXIMAL, masking=AtEnd()),
    "factors, proximal": mm.Recipe(geometry=Factors(), pressure=PROXIMAL, masking=AtEnd()),
    "pilot, pressing": mm.Recipe(
        geometry=ScaledMirror(), pressure=PROXIMAL, masking=AtEnd(score="saliency")
    ),
}
BASES: dict[str, Callable[[nn.Module], Optimizer]] = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, fused=True),
    "adamw": lambda model: torch.optim.AdamW(
        model.parameters(), lr=1e-4, weight_decay=0.0, fused=True
    ),
}


class Contender:
    """A model of its own with its optimizer, on the same data as all others."""

    def __init__(self, model: str, base: str, recipe: mm.Recipe | None, steps: int) -> None:
        torch.manual_seed(0)
        self.model, self.inputs, self.labels = make(model)
        self.optimizer = BASES[base](self.model)
        if recipe is not None:
            self.optimizer = mm.sparsify(
                self.optimizer, self.model, sparsity=0.9, steps=steps, method=recipe
            )

    def step(self) -> tuple[float, float]:
        """Take one training step; return its seconds, and those of the optimizer alone."""
        began = time.perf_counter()
        self.optimizer.zero_grad()
        scores = self.model(self.inputs).flatten(0, -2)
        torch.autograd.backward(F.cross_entropy(scores, self.labels))
        middle = time.perf_counter()
        self.optimizer.step()
        end = time.perf_counter()
        return end - began, end - middle

    def bytes_per_weight(self) -> float:
        """Return what the optimizer keeps, for each parameter of the model."""
        weights = sum(parameter.numel() for parameter in self.model.parameters())
        return state_bytes(self.optimizer, self.model) / weights


def make(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a model by name, with a batch for it."""
    if name not in TRANSFORMERS:
        images, labels = torch.randn(IMAGES, 1, 28, 28), torch.randint(10, (IMAGES,))
        return build(name, in_channels=1, image_size=28, num_classes=10), images, labels
    width, layers = TRANSFORMERS[name]
    tokens = torch.randint(VOCABULARY, (SEQUENCES, LENGTH))
    model = Transformer(VOCABULARY, LENGTH, width=width, heads=8, layers=layers)
    return model, tokens, tokens.roll(-1, 1).flatten()


def measure(model: str, base: str, names: list[str], rounds: int, warmup: int) -> dict[str, Any]:
    """Return milliseconds, ratios and memory of every contender on one model."""
    total = rounds + warmup
    contenders = {name: Contender(model, base, RECIPES[name], total) for name in names}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    order, shuffle = list(names), random.Random(0).shuffle
    for done in range(total):
        shuffle(order)
        for name in order:
            taken = contenders[name].step()
            if done >= warmup:
                seconds[name].append(taken)
    rows: dict[str, Any] = {}
    common = statistics.median(whole - own for pairs in seconds.values() for whole, own in pairs)
    plain = statistics.median(own for _, own in seconds["plain"])
    for name, pairs in seconds.items():
        optimizer = statistics.median(own for _, own in pairs)
        ratios = [mine[0] / its[0] for mine, its in zip(pairs, seconds["plain"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows[name] = {
            "ratio": (common + optimizer) / (common + plain),
            "whole_ratio": middle,
            "whole_ratio_quartiles": [low, high],
            "optimizer_median_ms": 1e3 * optimizer,
            "state_bytes_per_weight": round(contenders[name].bytes_per_weight(), 3),
            "ms": [round(1e3 * whole, 3) for whole, _ in pairs],
            "optimizer_ms": [round(1e3 * own, 3) for _, own in pairs],
        }
        print(
            f"{model:16} {base:6} {name:24} {1e3 * common:8.1f} + {1e3 * optimizer:7.2f} ms   "
            f"x{rows[name]['ratio']:.3f}   whole x{middle:.3f} [{low:.3f}, {high:.3f}]   "
            f"{rows[name]['state_bytes_per_weight']:6.2f} bytes a weight",
            flush=True,
        )
    weights = sum(p.numel() for p in contenders["plain"].model.parameters())
    return {
        "weights": weights,
        "rounds": rounds,
        "forward_backward_median_ms": 1e3 * common,
        "contenders": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", nargs="+", default=["cnn", "mlp-3x1024"])
    parser.add_argument("--bases", nargs="+", choices=BASES, default=list(BASES))
    parser.add_argument("--contenders", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result: dict[str, Any] = {
        "script": "benchmarks/step_time.py",
        "torch": torch.__version__,
        "cpu": platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": options.threads,
        "images a batch": IMAGES,
        "tokens a batch": SEQUENCES * LENGTH,
        "models": {},
    }
    if options.out and options.out.exists():
        result["models"] = json.loads(options.out.read_text(encoding="utf-8"))["models"]
    for model in options.models:
        for base in options.bases:
            rows = measure(model, base, options.contenders, options.rounds, options.warmup)
            result["models"].setdefault(model, {})[base] = rows
            if options.out:
                options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
