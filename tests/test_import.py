"""Importing mirrormask costs little more than importing torch, and loads nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

MODULES = """
import json, sys
import torch
import numpy, safetensors, safetensors.torch
before = set(sys.modules)
import mirrormask
new = sorted(set(sys.modules) - before)
print(json.dumps([name for name in new if name.partition(".")[0] not in sys.stdlib_module_names]))
"""

TIMING = """
import time
import torch
start = time.perf_counter()
import mirrormask
print(time.perf_counter() - start)
"""


def fresh(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip().splitlines()[-1]


def test_only_torch_numpy_and_safetensors_are_loaded() -> None:
    names = json.loads(fresh(MODULES))
    strangers = [n for n in names if n.partition(".")[0] not in ("mirrormask", "torch", "numpy")]
    assert "mirrormask" in names
    assert strangers == []


def test_it_takes_little_longer_than_torch() -> None:
    # The fastest of three: a busy machine slows single runs, not all of them.
    assert min(float(fresh(TIMING)) for _ in range(3)) < 0.3
