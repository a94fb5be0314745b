"""Methods from a file of one's own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from mirrormask.errors import ArgumentError


def load_plugin(path: Path) -> None:
    """Run a Python file that registers methods, once a process.

    Raises:
        ArgumentError: If there is no such file, or it fails.
    """
    name = f"mirrormask_plugin_{path.stem}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ArgumentError(f"plugin={str(path)!r} is no Python file: give one that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ArgumentError(f"plugin={str(path)!r} fails: {error!r}") from error
