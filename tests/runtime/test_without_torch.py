"""The runtime in a process of its own, which must never import torch."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mirrormask import files, kernels, runtime
from mirrormask.deploy import save_program
from mirrormask.kernels import kernel_status

CODE = """
import json, sys
before = set(sys.modules)
from mirrormask import runtime
import numpy as np
program = runtime.load(sys.argv[1])
out = program(np.load(sys.argv[2]), threads=2)
np.save(sys.argv[3], out)
new = {name.partition(".")[0] for name in set(sys.modules) - before}
strangers = new - set(sys.stdlib_module_names)
arrays = sum(array.nbytes for array in program._arrays)
print(json.dumps({"modules": sorted(strangers), "arrays": arrays}))
"""


@pytest.mark.skipif(not kernel_status().active, reason="no compiled kernels")
def test_a_process_without_torch_gives_the_same_outputs(tmp_path):
    model = nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 1024)).eval()
    with torch.no_grad():
        for weight in (model[0].weight, model[2].weight):
            weight.masked_fill_(torch.rand(weight.shape) < 0.95, 0.0)
    x = torch.randn(1, 1024)
    save_program(model, x, tmp_path / "net")
    np.save(tmp_path / "x.npy", x.numpy())
    done = subprocess.run(
        [sys.executable, "-c", CODE, tmp_path / "net", tmp_path / "x.npy", tmp_path / "y.npy"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    assert set(found["modules"]) == {"mirrormask", "numpy"}
    # Eight bytes a weight, and little else: 34 MB of dense weights became 3.4.
    nonzeros = sum(int(torch.count_nonzero(model[index].weight)) for index in (0, 2))
    assert found["arrays"] < 8 * nonzeros + 4 * 20_000
    expected = model(x).detach().numpy()
    assert np.abs(np.load(tmp_path / "y.npy") - expected).max() <= 1e-5 * np.abs(expected).max()


BELOW = {
    files: ("errors", "files"),
    kernels: ("errors", "kernels"),
    runtime: ("errors", "files", "kernels", "runtime"),
}


@pytest.mark.parametrize("room", BELOW, ids=lambda room: room.__name__)
def test_these_rooms_import_neither_torch_nor_rooms_above(room):
    allowed = tuple(f"mirrormask.{name}" for name in BELOW[room])
    for path in Path(room.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if name.partition(".")[0] not in sys.stdlib_module_names:
                    assert name == "numpy" or name.startswith(("numpy.", *allowed)), (path, name)
