"""Sparse neural networks by implicit regularisation, ``x = m * w``.

optimizer = mirrormask.sparsify(optimizer, model, sparsity=0.95, steps=total_steps)
...                                  # the training loop, unchanged
print(optimizer.finalize())          # exact zeros in a plain model
"""

from mirrormask.methods import METHODS as METHODS
from mirrormask.methods import Method as Method
from mirrormask.optimizer import Recipe as Recipe
from mirrormask.optimizer import SparseOptimizer as SparseOptimizer
from mirrormask.report import SparsityReport as SparsityReport
from mirrormask.selection import select as select
from mirrormask.sparsify import sparsify as sparsify

__version__ = "0.1.0"
