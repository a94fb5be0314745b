"""Keep what a process frees, so that large outputs are not mapped anew in every call.

Depending on what was freed before, glibc gives 10 MB back to the system at once, and the next
call then waits for thousands of page faults: up to two thirds of the time of a sparse
convolution, and half of the time of torch's dense one. Runtimes with arenas of their own, such as
ONNX Runtime, never do that, so without this the comparison would measure allocators, differently
in each process.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 << 20


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for the next call; elsewhere nothing is done."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_TRIM_THRESHOLD, 1 << 30)
