"""The budget of a sign flip, and which weights survive a budget."""

from __future__ import annotations

import math

import numpy as np
import torch

from mirrormask.lab.discrete import flip_pulls
from mirrormask.lab.figures.figure import (
    COLOURS,
    Figure,
    Finding,
    Row,
    Tick,
    canvas,
    to_svg,
)
from mirrormask.lab.figures.study import Study
from mirrormask.lab.flow import closed_form, flip_pull
from mirrormask.lab.schedules import Array

BETAS = (1.0, 0.1, 0.01)
LR, STEPS = 1e-3, 6000


def _flips(x0: Array, beta: float) -> Array:
    pulls: Array = flip_pulls(torch.from_numpy(x0), beta=beta, lr=LR, steps=STEPS).numpy()
    return pulls


def draw(study: Study, tick: Tick) -> Figure:
    """Return the pull that flips a sign, and what is left of weights under pull and budget."""
    drawing, (flips, alive) = canvas(2)
    x0 = np.geomspace(0.01, 2.0, 16)
    rows: list[Row] = []
    worst = 0.0
    for j, beta in enumerate(BETAS):
        seen, told = _flips(x0, beta), flip_pull(x0, beta)
        # A flip is seen at the end of a step, so small ones carry one step of error.
        worst = max(worst, float(np.max(np.abs(seen - told) / (told + LR / 0.01))))
        flips.plot(x0, told, color=COLOURS[j], label=f"beta = {beta:g}")
        flips.plot(x0, seen, "o", color=COLOURS[j], markersize=3.5)
        rows += [
            ("flip", beta, float(x), float(s), float(t))
            for x, s, t in zip(x0, seen, told, strict=True)
        ]
        tick()
    never = bool(np.isnan(_flips(x0, 0.0)).all())
    ratio = np.linspace(0.0, 2.0, 201)
    left = []
    for j, budget in enumerate((0.5, 1.0, 2.0, 4.0)):
        # A weight born at 0.1 and pulled outwards by a total of ratio * 2 A.
        x = closed_form(np.full_like(ratio, 0.1), -ratio * 2 * budget, budget)
        alive.plot(ratio, np.abs(x), color=COLOURS[j], label=f"A = {budget:g}")
        rows += [
            ("survival", budget, float(r), float(v), math.nan)
            for r, v in zip(ratio, x, strict=True)
        ]
        left.append((float(x[ratio == 0.5][0]), float(x[ratio == 1.5][0])))
    flips.set(
        xlabel="weight at the start",
        ylabel="∫ g dt when the sign flips",
        xscale="log",
        title="lines: arcsinh(2x/beta)/2, dots: descent",
    )
    alive.axvline(1.0, color="black", linewidth=0.8, linestyle=":")
    alive.set(
        xlabel="pull over budget, |∫ g dt| / (2A)",
        ylabel="|x| at the end",
        yscale="log",
        title="A weight lives if its pull beats the budget",
    )
    flips.legend()
    alive.legend()
    return Figure(
        name="flips",
        title="Sign flips and survival",
        caption="Left: a steady pull flips the sign of a weight when it has added up to "
        "arcsinh(2x/beta)/2; the smaller the balance, the dearer the flip, and without balance "
        "it never comes. Right: a weight born at 0.1 under pull and budget together; the "
        "larger the budget, the sharper the edge at |∫g| = 2A.",
        svg=to_svg(drawing, "flips"),
        columns=("panel", "beta_or_budget", "start_or_ratio", "measured", "predicted"),
        rows=rows,
        findings=(
            Finding(
                "signs flip at the stated pull, and never for beta = 0",
                worst < 0.01 and never,
                f"largest deviation {100 * worst:.2f} % (a step of {LR:g} allowed for); "
                f"flips with beta = 0: {'none' if never else 'some'}",
            ),
            Finding(
                "half the pull of the budget kills a weight, one and a half keep it",
                left[-1][0] < 1e-3 and left[-1][1] > 1.0,
                f"at A = 4: {left[-1][0]:.1e} against {left[-1][1]:.3g}",
            ),
        ),
    )
