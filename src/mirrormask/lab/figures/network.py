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
    Settings,
    Tick,
    canvas,
    to_svg,
)
from mirrormask.lab.potential import effective_exponent
from mirrormask.study.data import load
from mirrormask.study.models import build

LR, MOMENTUM, BATCH, BUDGET, RECORDS = 0.05, 0.9, 100, 1.6, 40


@dataclass(frozen=True)
class Seen:
    """One layer at one step."""

    step: int
    layer: str
    budget: float
    scale: float
    exponent: float
    spread: float
    """The ratio of the norms, ``|x|_1 / |x|_2``, over the square root of the size: 1 is dense."""


def watch(layer: str, latents: Latents, *, step: int, budget: float) -> Seen:
    """Return what a layer's factors say of its geometry."""
    scale = Factors().scale(latents).item()
    x = Factors().compose(latents).double().flatten()
    spread = x.abs().sum() / (x.norm() * math.sqrt(x.numel()))
    exponent = float(effective_exponent(x.numpy(), max(scale, 1e-300)))
    return Seen(step, layer, budget, scale, exponent, spread.item())


def train(settings: Settings, tick: Tick) -> tuple[list[Seen], float]:
    """Train a small network on Fashion-MNIST in factors; return what was seen, and accuracy."""
    data = load()
    torch.manual_seed(0)
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
    total = settings.epochs * (size // BATCH)
    # Momentum multiplies the budget by 1 / (1 - momentum).
    alpha = BUDGET * (1 - MOMENTUM) / (total * LR)
    groups: list[dict[str, Any]] = [
        {"params": factors, "weight_decay": 2 * alpha},
        {"params": rest},
    ]
    optimizer = torch.optim.SGD(groups, lr=LR, momentum=MOMENTUM)
    rng, seen, step = torch.Generator().manual_seed(0), [], 0
    due = set(np.linspace(0, total, RECORDS + 1).round().astype(int).tolist())
    for _ in range(settings.epochs):
        order = torch.randperm(size, generator=rng)[: size // BATCH * BATCH]
        for rows in order.view(-1, BATCH):
            if step in due:
                spent = BUDGET * step / total
                seen += [watch(n, pair, step=step, budget=spent) for n, pair in latents.items()]
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
    seen += [watch(n, pair, step=step, budget=BUDGET) for n, pair in latents.items()]
    tick()
    model.eval()
    with torch.no_grad():
        right = model(data.test.images).argmax(1) == data.test.labels
    return seen, right.double().mean().item()


def draw(settings: Settings, tick: Tick) -> Figure:
    """Return scale, effective exponent and norm ratio of each layer over a training run."""
    seen, accuracy = train(settings, tick)
    layers = list(dict.fromkeys(s.layer for s in seen))
    drawing, (scale, exponent, spread) = canvas(3)
    for j, layer in enumerate(layers):
        some = [s for s in seen if s.layer == layer]
        steps = [s.step for s in some]
        scale.plot(steps, [s.scale for s in some], color=COLOURS[j], label=layer)
        exponent.plot(steps, [s.exponent for s in some], color=COLOURS[j], label=layer)
        spread.plot(steps, [s.spread for s in some], color=COLOURS[j], label=layer)
    first = [s for s in seen if s.layer == layers[0]]
    flow = [0.5 * math.exp(-4 * s.budget) for s in first]
    scale.plot([s.step for s in first], flow, "--", color="black", label="flow: exp(−4A)/2")
    scale.set(xlabel="step", ylabel="scale a (median)", yscale="log", title="Scale")
    exponent.set(xlabel="step", ylabel="d log R / d log |x|", title="Effective exponent")
    spread.set(xlabel="step", ylabel="‖x‖₁ / (‖x‖₂ √n)", title="Norm ratio")
    scale.legend()
    starts, ends = seen[: len(layers)], seen[-len(layers) :]
    fell = [b.exponent < a.exponent for a, b in zip(starts, ends, strict=True)]
    thinner = [b.spread < a.spread for a, b in zip(starts, ends, strict=True)]
    ratio = [s.scale / (0.5 * math.exp(-4 * BUDGET)) for s in ends]
    return Figure(
        name="network",
        title="From L2 to L1 inside a real network",
        caption="A multilayer perceptron in factors on the packaged Fashion-MNIST "
        f"(SGD, momentum {MOMENTUM:g}, constant alpha with the budget A = {BUDGET:g}; one run, "
        f"test accuracy {100 * accuracy:.1f} %). The scale falls as the flow says and a little "
        "faster, since gradient noise shrinks the balance too; each layer passes from an "
        "exponent of 2 to one near 1, and its norm ratio falls: weight gathers in few entries.",
        svg=to_svg(drawing, "network"),
        columns=("step", "layer", "budget", "scale", "exponent", "norm_ratio"),
        rows=[(s.step, s.layer, float(s.budget), s.scale, s.exponent, s.spread) for s in seen],
        findings=(
            Finding(
                "in every layer the exponent falls from L2 towards L1",
                all(fell),
                "; ".join(
                    f"{a.layer} {a.exponent:.2f} to {b.exponent:.2f}"
                    for a, b in zip(starts, ends, strict=True)
                ),
            ),
            Finding(
                "in every layer the norm ratio falls",
                all(thinner),
                "; ".join(
                    f"{a.layer} {a.spread:.2f} to {b.spread:.2f}"
                    for a, b in zip(starts, ends, strict=True)
                ),
            ),
            Finding(
                "the scale ends at or below the flow's, within a factor of two",
                all(0.5 < r < 1.01 for r in ratio),
                ", ".join(f"{s.layer} {r:.3f} of it" for s, r in zip(ends, ratio, strict=True)),
            ),
        ),
    )
