"""The L2-to-L1 transition inside a real network, layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mirrormask.geometry import Factors, Latents
from mirrormask.lab.figures.figure import (
    COLOURS,
    Figure,
    Finding,
    Tick,
    band,
    canvas,
    legend_below,
    said,
    to_svg,
)
from mirrormask.lab.figures.study import Study
from mirrormask.lab.potential import effective_exponent
from mirrormask.lab.schedules import Array
from mirrormask.study.data import load
from mirrormask.study.models import build

LR, MOMENTUM, BATCH, BUDGET, RECORDS = 0.05, 0.9, 100, 1.6, 30
RUNS = 3


@dataclass(frozen=True)
class Seen:
    """One layer at one step of one run."""

    seed: int
    step: int
    layer: str
    budget: float
    scale: float
    exponent: float
    spread: float
    """The ratio of the norms, ``|x|_1 / |x|_2``, over the square root of the size: 1 is dense."""


def watch(layer: str, latents: Latents, *, seed: int, step: int, budget: float) -> Seen:
    """Return what a layer's factors say of its geometry."""
    scale = Factors().scale(latents).item()
    x = Factors().compose(latents).double().flatten()
    spread = x.abs().sum() / (x.norm() * math.sqrt(x.numel()))
    exponent = float(effective_exponent(x.numpy(), max(scale, 1e-300)))
    return Seen(seed, step, layer, budget, scale, exponent, spread.item())


def train(seed: int, epochs: int, tick: Tick) -> tuple[list[Seen], float]:
    """Train a small network on Fashion-MNIST in factors; return what was seen, and accuracy."""
    data = load()
    torch.manual_seed(seed)
    model = build(
        "mlp",
        in_channels=data.in_channels,
        image_size=data.image_size,
        num_classes=data.num_classes,
    )
    weights = {n: p for n, p in model.named_parameters() if p.ndim > 1}
    geometry = Factors(beta=1.0)
    latents = {name: geometry.split(p) for name, p in weights.items()}
    factors = [tensor for pair in latents.values() for tensor in pair.values()]
    rest = [p for p in model.parameters() if p.ndim == 1]
    size = len(data.train.labels)
    total = epochs * (size // BATCH)
    # Momentum multiplies the budget by 1 / (1 - momentum).
    alpha = BUDGET * (1 - MOMENTUM) / (total * LR)
    groups: list[dict[str, Any]] = [
        {"params": factors, "weight_decay": 2 * alpha},
        {"params": rest},
    ]
    optimizer = torch.optim.SGD(groups, lr=LR, momentum=MOMENTUM)
    rng, seen, step = torch.Generator().manual_seed(seed), [], 0
    due = set(np.linspace(0, total, RECORDS + 1).round().astype(int).tolist())
    for _ in range(epochs):
        order = torch.randperm(size, generator=rng)[: size // BATCH * BATCH]
        for rows in order.view(-1, BATCH):
            if step in due:
                spent = BUDGET * step / total
                seen += [
                    watch(n, pair, seed=seed, step=step, budget=spent)
                    for n, pair in latents.items()
                ]
                tick()
            model.zero_grad()
            scores = model(data.train.images[rows])
            loss = nn.functional.cross_entropy(scores, data.train.labels[rows])
            torch.autograd.backward(loss)
            for name, p in weights.items():
                assert p.grad is not None
                for key, grad in geometry.pull_back(latents[name], p.grad).items():
                    latents[name][key].grad = grad
            optimizer.step()
            for name, p in weights.items():
                geometry.compose(latents[name], out=p.data)
            step += 1
    seen += [watch(n, pair, seed=seed, step=step, budget=BUDGET) for n, pair in latents.items()]
    tick()
    model.eval()
    with torch.no_grad():
        right = model(data.test.images).argmax(1) == data.test.labels
    return seen, right.double().mean().item()


def draw(study: Study, tick: Tick) -> Figure:
    """Return scale, effective exponent and norm ratio of each layer over a training run."""
    runs = [train(seed, study.settings.epochs, tick) for seed in range(RUNS)]
    seen = [s for run, _ in runs for s in run]
    accuracy = np.array([accuracy for _, accuracy in runs])
    layers = list(dict.fromkeys(s.layer for s in seen))
    steps = np.array(sorted({s.step for s in seen}), dtype=np.float64)

    def values(layer: str, what: str) -> Array:
        """Return one quantity of a layer, shape (steps, runs)."""
        found = [[getattr(s, what) for s in run if s.layer == layer] for run, _ in runs]
        return np.array(found, dtype=np.float64).T

    drawing, panels = canvas(3)
    titles = {"scale": "Scale", "exponent": "Effective exponent", "spread": "Norm ratio"}
    for axes, what in zip(panels, titles, strict=True):
        for j, layer in enumerate(layers):
            band(axes, steps, values(layer, what), label=layer, colour=COLOURS[j])
        axes.set(xlabel="step", title=titles[what])
    flow = 0.5 * np.exp(-4 * BUDGET * steps / steps[-1])
    panels[0].plot(steps, flow, "--", color="black", label="flow: exp(−4A)/2")
    panels[0].set(ylabel="scale a (median)", yscale="log")
    panels[1].set(ylabel="d log R / d log |x|")
    panels[2].set(ylabel="‖x‖₁ / (‖x‖₂ √n)")
    legend_below(drawing, panels[0], 4)
    exponents = {n: values(n, "exponent") for n in layers}
    spreads = {n: values(n, "spread") for n in layers}
    ratios = {n: values(n, "scale")[-1] / flow[-1] for n in layers}
    return Figure(
        name="network",
        title="From L2 to L1 inside a real network",
        caption="A multilayer perceptron in factors on the packaged Fashion-MNIST "
        f"(SGD, momentum {MOMENTUM:g}, constant alpha with the budget A = {BUDGET:g}; {RUNS} "
        f"runs, test accuracy {said(100 * accuracy)} %). The scale falls as the flow says and a "
        "little faster, since momentum and gradient noise shrink the balance too; each layer "
        "passes from an exponent of 2 towards 1, and its norm ratio (1 where all weights have one "
        "size) falls: weight gathers in few entries. Bands: 95 % over runs.",
        svg=to_svg(drawing, "network"),
        columns=("seed", "step", "layer", "budget", "scale", "exponent", "norm_ratio"),
        rows=[
            (s.seed, s.step, s.layer, float(s.budget), s.scale, s.exponent, s.spread) for s in seen
        ],
        findings=(
            Finding(
                "in every layer the exponent falls from L2 towards L1",
                all(bool((v[-1] < v[0]).all()) for v in exponents.values()),
                "; ".join(f"{n}: {said(v[0])} to {said(v[-1])}" for n, v in exponents.items()),
            ),
            Finding(
                "in every layer the norm ratio falls",
                all(bool((v[-1] < v[0]).all()) for v in spreads.values()),
                "; ".join(f"{n}: {said(v[0])} to {said(v[-1])}" for n, v in spreads.items()),
            ),
            Finding(
                "the scale ends at or below the flow's, within a factor of two",
                all(bool(((v > 0.5) & (v < 1.01)).all()) for v in ratios.values()),
                ", ".join(f"{n}: {said(v)} of it" for n, v in ratios.items()),
            ),
        ),
    )
