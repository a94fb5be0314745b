"""Run the main job on several seeds and set the sparse twin beside the dense one on each.

    python benchmarks/demo_seeds.py --seeds 0 1 2 --out benchmarks/results/demo_seeds.json

Runs are kept under ``--runs`` and resumed, so an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mirrormask.kernels.active import kernel_status
from mirrormask.study.settings import TrainSettings
from mirrormask.study.train import train


def one(seed: int, runs: Path) -> dict[str, Any]:
    """Return what the two twins of a seed reached."""
    settings = TrainSettings(seed=seed, threads=2)  # as `make demo` does
    result = train(settings, runs / f"demo-seed{seed}", resume=(runs / f"demo-seed{seed}").exists())
    print(f"seed {seed}: {result.verdict}", flush=True)
    return {
        "seed": seed,
        "difference_points": result.difference,
        "settings": asdict(settings),
        "dense": {"test_accuracy": result.dense.test_accuracy, "seconds": result.dense.seconds},
        "sparse": {
            "test_accuracy": result.sparse.test_accuracy,
            "seconds": result.sparse.seconds,
            "zeros": result.sparse.zeros,
            "weights": result.sparse.weights,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = [one(seed, options.runs) for seed in options.seeds]
    result = {
        "script": "benchmarks/demo_seeds.py",
        "torch": torch.__version__,
        "kernels": kernel_status().variant,  # they round otherwise than torch's loops
        "seeds": rows,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
