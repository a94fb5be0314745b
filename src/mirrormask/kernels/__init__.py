"""Compiled sparse products: plain C behind ctypes, optional, chosen for this processor at run time.

This room knows neither torch nor numpy: it takes addresses. What makes tensors of them is in
``deploy/``. Without the library everything works through torch's own CSR products.
"""

from mirrormask.kernels.library import KernelStatus, Library, kernel_status, kernels
from mirrormask.kernels.structures import Blocks, Conv, ProgramData, Rows

__all__ = [
    "Blocks",
    "Conv",
    "KernelStatus",
    "Library",
    "ProgramData",
    "Rows",
    "kernel_status",
    "kernels",
]
