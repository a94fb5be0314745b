from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from mirrormask import deploy

BELOW = ("errors", "files", "kernels", "runtime")
ALLOWED = ("mirrormask.deploy", *(f"mirrormask.{room}" for room in BELOW))


def test_the_room_needs_torch_numpy_and_safetensors_only():
    script = (
        "import sys, torch, numpy\n"
        "before = set(sys.modules)\n"
        "import mirrormask.deploy\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert set(result.stdout.split()) <= {"mirrormask", "safetensors", "torch", "torchgen", "numpy"}


def test_the_room_imports_no_other_room():
    for path in Path(deploy.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            ours = [name for name in names if name and name.startswith("mirrormask")]
            assert all(name.startswith(ALLOWED) for name in ours)
