"""The discrete noise law: gradient noise alone shrinks the balance, which no flow knows."""

from __future__ import annotations

import math

import numpy as np
import torch

from mirrormask.geometry import Factors, Geometry, Mirror
from mirrormask.lab.discrete import balance_of, take_step
from mirrormask.lab.figures.figure import (
    COLOURS,
    Figure,
    Finding,
    Row,
    Tick,
    band,
    canvas,
    legend_below,
    to_svg,
)
from mirrormask.lab.figures.study import Study
from mirrormask.lab.schedules import Array

RATES = (0.01, 0.05, 0.1)
WEIGHTS, STEPS, EVERY, BUDGET = 500, 1000, 10, 0.25


def balances(geometry: Geometry, lr: float, noise: torch.Tensor) -> Array:
    """Return twice the mean scale along noisy steps on ``x``, one row every ten steps."""
    decay = BUDGET / STEPS
    x0 = torch.linspace(-0.5, 0.5, noise.shape[1], dtype=torch.float64)
    latents, seen = geometry.split(x0), []
    for k, grad in enumerate(noise):
        if k % EVERY == 0:
            seen.append(_twice_scale(latents))
        take_step(geometry, latents, grad, lr, decay / lr)
    return np.array([*seen, _twice_scale(latents)])


def _twice_scale(latents: dict[str, torch.Tensor]) -> float:
    if "a" in latents:
        return 2.0 * latents["a"].item()
    return balance_of(latents).mean().item()


def draw(study: Study, tick: Tick) -> Figure:
    """Return the mean balance under noise, the exact law, the flow, and the mirror's two forms."""
    drawing, panels = canvas(len(RATES))
    steps = np.arange(0, STEPS + 1, EVERY, dtype=np.float64)
    rows: list[Row] = []
    worst, gap, tracked, ignored = 0.0, 0.0, 0.0, 0.0
    for axes, lr in zip(panels, RATES, strict=True):
        curves: dict[str, list[Array]] = {}
        for seed in range(study.settings.seeds):
            rng = torch.Generator().manual_seed(seed)
            noise = torch.randn(STEPS, WEIGHTS, dtype=torch.float64, generator=rng)
            factor = (1 - 2 * BUDGET / STEPS) ** 2 - (lr * noise.numpy()) ** 2
            law = np.concatenate([np.ones((1, WEIGHTS)), np.cumprod(factor, axis=0)]).mean(axis=1)
            curves.setdefault("factors", []).append(balances(Factors(beta=1.0), lr, noise))
            curves.setdefault("exact law", []).append(law[::EVERY])
            flow = np.exp(-4 * BUDGET * steps / STEPS)
            curves.setdefault("flow", []).append(flow)
            for kind in ("ignore", "second-moment"):
                mirror = Mirror(a=0.5, noise="ignore" if kind == "ignore" else "second-moment")
                curves.setdefault(f"mirror, {kind}", []).append(balances(mirror, lr, noise))
            tick()
        for j, (name, found) in enumerate(curves.items()):
            curve = np.array(found).T
            if name in ("exact law", "flow"):
                # Theory is broad and pale, so that descent is seen on top of it.
                mean = curve.mean(axis=1)
                axes.plot(steps, mean, color=COLOURS[j], linewidth=6.0, alpha=0.3, label=name)
            else:
                line = "-" if name == "factors" else "--"
                band(axes, steps, curve, label=name, colour=COLOURS[j], line=line)
            rows += [
                (lr, name, int(s), seed, float(v))
                for seed, curve in enumerate(found)
                for s, v in zip(steps, curve, strict=True)
            ]
        end = {name: np.array([curve[-1] for curve in found]) for name, found in curves.items()}
        worst = max(worst, float(np.abs(end["factors"] / end["exact law"] - 1).max()))
        gap = float((end["flow"] / end["factors"]).mean())
        tracked = float(np.abs(np.log(end["mirror, second-moment"] / end["factors"])).max())
        ignored = float(np.abs(np.log(end["mirror, ignore"] / end["factors"])).max())
        axes.set(xlabel="step", ylabel="mean of m² − w²", yscale="log", title=f"lr = {lr:g}")
    legend_below(drawing, panels[0], 5)
    return Figure(
        name="noise",
        title="The noise law of discrete steps",
        caption="Gradients that are pure noise of unit size. A step multiplies each balance by "
        f"(1 − 2·lr·alpha)² − (lr·g)², so large steps use up the balance beyond the budget of "
        f"A = {BUDGET:g} that the flow knows of. The mirror step follows the flow, unless it "
        "corrects its scale by the second moment. Mean over weights; bands: 95 % over seeds.",
        svg=to_svg(drawing, "noise"),
        columns=("lr", "curve", "step", "seed", "balance"),
        rows=rows,
        findings=(
            Finding(
                "descent on the factors obeys the exact law",
                worst < 1e-6,
                f"largest relative deviation of the mean balance {worst:.1e}",
            ),
            Finding(
                "noise shrinks the balance far below the flow at large steps",
                gap > 2 and math.isfinite(gap),
                f"at lr = {RATES[-1]:g} the flow overstates the balance {gap:.3g} times",
            ),
            Finding(
                "the mirror with the second-moment correction follows the factors, without it not",
                tracked < 0.1 * ignored,
                f"at lr = {RATES[-1]:g}, log-deviation {tracked:.3f} against {ignored:.3f}",
            ),
        ),
    )
