"""The figures' descents at once against one run after another, in one interleaved process.

    OMP_NUM_THREADS=1 python benchmarks/theory_speed.py

The loop versions compute every run of every figure on every seed by itself: one in plain NumPy
from the formulas, one in PyTorch as a module with autograd and an optimizer. A step costs the
same whatever their number, so the steps are fewer than in the figures (the PyTorch loop takes a
random sample of the runs, and its time per run is scaled up: both counts are in the JSON).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mirrormask.lab.figures.figure import Settings
from mirrormask.lab.figures.gallery import PLANS, study_for
from mirrormask.lab.problems import Problems
from mirrormask.lab.regression import Run
from mirrormask.lab.schedules import step_strengths

Array = npt.NDArray[np.float64]
RESULTS = Path(__file__).parent / "results" / "theory_speed.json"


def numpy_run(z: Array, y: Array, x0: Array, run: Run, strengths: Array, lr: float) -> Array:
    """Return the end of one run on one problem."""
    x, ahead, pace = x0, x0, 1.0
    if run.start == "balanced":
        m = np.sqrt((np.sqrt(4 * x0**2 + run.beta**2) + run.beta) / 2)
        w = x0 / m
    else:
        m = np.sqrt(np.abs(x0))
        w = m.copy() if run.start == "equal" else np.sign(x0) * m
    for alpha in strengths:
        if run.method in ("factors", "mask-l1"):
            g = z.T @ (z @ (m * w) - y)
            if run.method == "factors":
                m, w = m - lr * (g * w + 2 * alpha * m), w - lr * (g * m + 2 * alpha * w)
            else:
                m, w = m - lr * (g * w + 2 * alpha * np.sign(m)), w - lr * g * m
            x = m * w
        elif run.method == "subgradient":
            x = x - lr * (z.T @ (z @ x - y) + 2 * alpha * np.sign(x))
        else:
            moved = ahead - lr * (z.T @ (z @ ahead - y))
            moved = np.sign(moved) * np.maximum(np.abs(moved) - 2 * lr * alpha, 0)
            following = (1 + (1 + 4 * pace**2) ** 0.5) / 2
            push = (pace - 1) / following if run.method == "fista" else 0.0
            ahead = moved + push * (moved - x)
            x, pace = moved, following
    return x


def torch_run(z: Array, y: Array, x0: Array, strengths: Array, lr: float) -> None:
    """Run factors by autograd and SGD, as a script would."""
    zt, yt, x = torch.from_numpy(z), torch.from_numpy(y), torch.from_numpy(x0)
    m = nn.Parameter(((torch.sqrt(4 * x**2 + 1) + 1) / 2).sqrt())
    w = nn.Parameter(x / m.detach())
    optimizer = torch.optim.SGD([m, w], lr=lr)
    for alpha in strengths:
        optimizer.param_groups[0]["weight_decay"] = 2 * alpha
        optimizer.zero_grad()
        loss = 0.5 * (zt @ (m * w) - yt).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def pairs(problems: Problems, runs: list[Run]) -> list[tuple[int, Run]]:
    """Return every seed with every run."""
    return [(seed, run) for run in runs for seed in range(problems.seeds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--torch-sample", type=int, default=30)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings(steps=arguments.steps)
    problems = settings.problems()
    runs = [run for plan in PLANS.values() for run in plan(settings)]
    lr = settings.lr
    strengths = {run: step_strengths(run.schedule, settings.steps, lr) for run in runs}
    todo = pairs(problems, runs)
    rng = np.random.default_rng(0)
    rounds = []
    for _ in range(arguments.repeats):
        began = time.perf_counter()
        study = study_for(PLANS, settings)
        traces = {name: study.trace(plan(settings), lambda: None) for name, plan in PLANS.items()}
        together = time.perf_counter() - began

        began = time.perf_counter()
        ends = [
            numpy_run(problems.z[s], problems.y[s], problems.x0[s], run, strengths[run], lr)
            for s, run in todo
        ]
        loop = time.perf_counter() - began

        sample = [todo[i] for i in rng.choice(len(todo), arguments.torch_sample, replace=False)]
        began = time.perf_counter()
        for s, run in sample:
            torch_run(problems.z[s], problems.y[s], problems.x0[s], strengths[run], lr)
        autograd = (time.perf_counter() - began) * len(todo) / len(sample)
        rounds.append({"together": together, "numpy_loop": loop, "torch_loop_scaled": autograd})
        print(rounds[-1], flush=True)
    every = np.concatenate([trace.x.swapaxes(0, 1) for trace in traces.values()])
    apart = np.abs(every.reshape(len(todo), -1) - np.stack(ends)).max()
    ratios = {
        name: statistics.median(r[name] / r["together"] for r in rounds)
        for name in ("numpy_loop", "torch_loop_scaled")
    }
    result = {
        "steps": settings.steps,
        "runs": len(runs),
        "seeds": problems.seeds,
        "torch_sample": arguments.torch_sample,
        "largest_difference_to_numpy_loop": float(apart),
        "rounds_seconds": rounds,
        "median_ratio": ratios,
        "environment": {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
            "threads": 1,
        },
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"the same answers to {apart:.1e}; median ratios {ratios}")


if __name__ == "__main__":
    main()
