"""The torch-free runtime: memory of its whole process above Python with numpy, and its start.

The MLP 1024-4096-1024 at 95 % zeros is saved as a program and run once in fresh processes that
never import torch. Run: python benchmarks/runtime_memory.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mirrormask.deploy import save_program
from mirrormask.deploy.timing import machine

RESULT = Path(__file__).parent / "results" / "runtime_memory.json"
SPARSITY = 0.95
REPEATS = 7
# Bytes of a process as it ends; for the runtime also seconds from the import to the first output.
BARE = """
import json, numpy
lines = open("/proc/self/status").read().splitlines()
found = {l.split()[0]: int(l.split()[1]) * 1024 for l in lines if l[:5] in ("VmRSS", "VmHWM")}
print(json.dumps(found))
"""
RUNTIME = """
import time
import numpy
x = numpy.load("x.npy")
begin = time.perf_counter()
from mirrormask import runtime
program = runtime.load("net.program")
y = program(x)
seconds = time.perf_counter() - begin
numpy.save("y.npy", y)
import json, sys
assert "torch" not in sys.modules
lines = open("/proc/self/status").read().splitlines()
found = {l.split()[0]: int(l.split()[1]) * 1024 for l in lines if l[:5] in ("VmRSS", "VmHWM")}
print(json.dumps({**found, "seconds": seconds}))
"""


def fresh(code: str, folder: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 1024)).eval()
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.ndim == 2):
            weight.masked_fill_(torch.rand_like(weight) < SPARSITY, 0.0)
        x = torch.randn(1, 1024)
        expected = model(x).numpy()
    with tempfile.TemporaryDirectory() as folder:
        report = save_program(model, x, f"{folder}/net.program")
        np.save(f"{folder}/x.npy", x.numpy())
        pairs = [(fresh(BARE, folder), fresh(RUNTIME, folder)) for _ in range(REPEATS)]
        found = np.load(f"{folder}/y.npy")
    above = {
        key: statistics.median(ours[key] - bare[key] for bare, ours in pairs)
        for key in ("VmRSS:", "VmHWM:")
    }
    result = {
        "model": "1024-4096-1024",
        "sparsity": SPARSITY,
        "machine": machine(),
        "file_bytes": report.file_bytes,
        "runs": [{"bare": bare, "runtime": ours} for bare, ours in pairs],
        "above_bare_bytes": above["VmRSS:"],
        "peak_above_bare_bytes": above["VmHWM:"],
        "start_seconds": statistics.median(ours["seconds"] for _, ours in pairs),
        "max_error": float(np.abs(found - expected).max() / np.abs(expected).max()),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print({key: value for key, value in result.items() if key != "runs"})


if __name__ == "__main__":
    main()
