"""The one stateful core: an optimizer that wraps the caller's own and moves latents instead."""

from mirrormask.optimizer.core import SparseOptimizer as SparseOptimizer
from mirrormask.optimizer.recipe import Recipe as Recipe
