"""Compiled loops: plain C behind ctypes, optional, chosen for this processor at run time.

This room knows neither torch nor numpy: it takes addresses. What makes tensors of them is in
``deploy/`` for sparse products and in ``geometry/`` for the mirror step. Without the library
everything works through torch's own operations.
"""

from mirrormask.kernels.active import KernelStatus, kernel_status, kernels
from mirrormask.kernels.library import Library
from mirrormask.kernels.structures import (
    VARIANTS,
    WAYS,
    Blocks,
    Conv,
    Live,
    ProgramData,
    Rows,
    Tiles,
)

__all__ = [
    "VARIANTS",
    "WAYS",
    "Blocks",
    "Conv",
    "KernelStatus",
    "Library",
    "Live",
    "ProgramData",
    "Rows",
    "Tiles",
    "kernel_status",
    "kernels",
]
