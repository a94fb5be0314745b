"""Time and memory of MirrorRegressor as features and samples grow, one thread.

    python benchmarks/estimator_scaling.py

Each fit runs in a process of its own, so that its peak memory is its own; the import of the
libraries is part of the memory and not of the time. Scale 1e-4; interpolation (penalty 0) and a
penalty of 0.05; 20 true features, no noise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mirrormask.lab import MirrorRegressor

RESULTS = Path(__file__).parent / "results" / "estimator_scaling.json"
DRAWING = Path(__file__).parents[1] / "docs" / "images" / "estimator-scaling.svg"
GRID = [
    *[(100, n) for n in (1_000, 3_000, 10_000, 30_000, 100_000)],
    *[(d, 10_000) for d in (50, 200, 500)],
    (500, 100_000),
]


def fit(samples: int, features: int, penalty: float) -> dict[str, Any]:
    """Return time and peak memory of one fit in this process."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, features))
    truth = np.zeros(features)
    truth[rng.choice(features, 20, replace=False)] = rng.standard_normal(20)
    y = x @ truth
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    model = MirrorRegressor(scale=1e-4, penalty=penalty).fit(x, y)
    seconds = time.perf_counter() - began
    # Kilobytes on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "samples": samples,
        "features": features,
        "penalty": penalty,
        "seconds": seconds,
        "peak_mb": peak / 1e3,
        "peak_before_fit_mb": before / 1e3,
        "data_mb": x.nbytes / 1e6,
        "newton_steps": int(model.n_iter_),
        "kept": int((model.coef_ != 0).sum()),
    }


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """Plot seconds over features and over samples."""
    drawing = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = drawing.subplots(1, 2)
    for penalty, colour in ((0.0, "#0072B2"), (0.05, "#D55E00")):
        some = [r for r in records if r["penalty"] == penalty]
        label = "interpolation" if penalty == 0 else f"penalty {penalty:g}"
        for axes, fixed, value, over in (
            (left, "samples", 100, "features"),
            (right, "features", 10_000, "samples"),
        ):
            line = sorted((r[over], r["seconds"]) for r in some if r[fixed] == value)
            axes.plot(*zip(*line, strict=True), "o-", color=colour, label=label)
            axes.set(xlabel=over, ylabel="seconds", xscale="log", yscale="log")
            axes.grid(alpha=0.25)
    left.set_title("100 samples")
    right.set_title("10,000 features")
    left.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, metavar=("SAMPLES", "FEATURES", "PENALTY"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--drawing", type=Path, default=DRAWING)
    arguments = parser.parse_args()
    if arguments.one:
        samples, features, penalty = arguments.one
        print(json.dumps(fit(int(samples), int(features), float(penalty))))
        return
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    records = []
    for samples, features in GRID:
        for penalty in (0.0, 0.05):
            command = [sys.executable, __file__, "--one", str(samples), str(features), str(penalty)]
            found = subprocess.run(
                command, check=True, capture_output=True, text=True, env={**os.environ, **threads}
            )
            records.append(json.loads(found.stdout))
            print(records[-1], flush=True)
    environment = {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "threads": 1,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"environment": environment, "records": records}, indent=1)
    arguments.out.write_text(text + "\n")
    draw(records, arguments.drawing)


if __name__ == "__main__":
    main()
