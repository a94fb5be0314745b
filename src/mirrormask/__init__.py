"""Sparse neural networks by implicit regularisation.

Example:
    >>> import torch, mirrormask
    >>> model = torch.nn.Linear(8, 8)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> optimizer = mirrormask.sparsify(optimizer, model, sparsity=0.75, steps=1)
    >>> model(torch.ones(8)).sum().backward()
    >>> optimizer.step()
    >>> optimizer.finalize().zeros
    48
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirrormask.copies import apply_masks as apply_masks
    from mirrormask.deploy import compile as compile
    from mirrormask.deploy import load as load
    from mirrormask.deploy import save as save
    from mirrormask.methods import METHODS as METHODS
    from mirrormask.methods import Knob as Knob
    from mirrormask.methods import Method as Method
    from mirrormask.methods import register as register
    from mirrormask.optimizer import Recipe as Recipe
    from mirrormask.optimizer import SparseOptimizer as SparseOptimizer
    from mirrormask.optimizer.shared_checkpoint import load_checkpoint as load_checkpoint
    from mirrormask.optimizer.shared_checkpoint import save_checkpoint as save_checkpoint
    from mirrormask.report import SparsityReport as SparsityReport
    from mirrormask.selection import select as select
    from mirrormask.sparsifying import sparsify as sparsify

__version__ = "0.1.0"

_HOMES = {
    "METHODS": "mirrormask.methods",
    "Knob": "mirrormask.methods",
    "Method": "mirrormask.methods",
    "Recipe": "mirrormask.optimizer",
    "SparseOptimizer": "mirrormask.optimizer",
    "SparsityReport": "mirrormask.report",
    "apply_masks": "mirrormask.copies",
    "compile": "mirrormask.deploy",
    "load": "mirrormask.deploy",
    "load_checkpoint": "mirrormask.optimizer.shared_checkpoint",
    "register": "mirrormask.methods",
    "save": "mirrormask.deploy",
    "save_checkpoint": "mirrormask.optimizer.shared_checkpoint",
    "select": "mirrormask.selection",
    "sparsify": "mirrormask.sparsifying",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for, because ``mirrormask.runtime`` needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    """Return all public names, those that are not imported yet included."""
    return sorted({*globals(), *_HOMES})
