"""Memory that a model adds to a process: dense, and loaded from a packed file at 95 % zeros.

Each way runs in a fresh process; resident bytes are read from /proc before and after, the peak is
reset in between. Run: python benchmarks/load_memory.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

from mirrormask.deploy import load, load_sparse, save
from mirrormask.deploy.timing import machine

SIZES = (1024, 4096, 1024)
SPARSITY = 0.95
REPEATS = 5
RESULT = Path(__file__).parent / "results" / "load_memory.json"


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(SIZES[0], SIZES[1]), nn.ReLU(), nn.Linear(SIZES[1], SIZES[2]))


def status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def child(way: str, folder: str) -> None:
    """Load once in this process and print the bytes added, at the end and at the peak."""
    torch.set_num_threads(1)
    # Lazily loaded code must not be counted as model memory.
    warm = nn.Sequential(nn.Linear(64, 64))
    with torch.no_grad():
        for parameter in warm.parameters():
            parameter[1:] = 0
    save(warm, f"{folder}/warm")
    load_sparse(f"{folder}/warm", warm)
    load(f"{folder}/warm")
    with torch.device("meta"):
        net = mlp()
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    if way == "packed":
        load_sparse(f"{folder}/model", net)
    else:
        net.load_state_dict(load(f"{folder}/model"), assign=True)
    print(json.dumps({"added": status("VmRSS") - before, "peak": status("VmHWM") - before}))


def main() -> None:
    torch.manual_seed(0)
    model = mlp()
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.ndim == 2):
            weight.masked_fill_(torch.rand_like(weight) < SPARSITY, 0.0)
    dense_bytes = sum(p.numel() * p.itemsize for p in model.parameters())
    with tempfile.TemporaryDirectory() as folder:
        report = save(model, f"{folder}/model")
        runs = {
            way: [
                json.loads(
                    subprocess.run(
                        [sys.executable, __file__, way, folder],
                        capture_output=True,
                        text=True,
                        check=True,
                    ).stdout
                )
                for _ in range(REPEATS)
            ]
            for way in ("dense", "packed")
        }
    added = statistics.median(run["added"] for run in runs["packed"])
    peak = statistics.median(run["peak"] for run in runs["packed"])
    result = {
        "model": "-".join(map(str, SIZES)),
        "sparsity": SPARSITY,
        "machine": machine(),
        "dense_weight_bytes": dense_bytes,
        "file_bytes": report.file_bytes,
        "runs": runs,
        "packed_added_over_dense_weights": added / dense_bytes,
        "packed_peak_over_added": peak / added,
        "packed_peak_over_a_sixth_of_dense": peak / (dense_bytes / 6),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        child(sys.argv[1], sys.argv[2])
    else:
        main()
