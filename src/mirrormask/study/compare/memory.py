"""The most memory that a stretch of work in this process held."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class PeakMemory:
    """Measures resident memory from its creation on, where the system can start anew.

    Linux can; elsewhere the peak is that of the whole process so far.

    Example:
        >>> PeakMemory().peak() > 1_000_000
        True
    """

    def __init__(self) -> None:
        self._reset = False
        try:
            _RESET.write_text("5", encoding="ascii")
            self._reset = True
        except OSError:
            pass

    def peak(self) -> int:
        """Return the peak in bytes."""
        if self._reset:
            for line in _STATUS.read_text(encoding="ascii").splitlines():
                if line.startswith("VmHWM:"):
                    return 1024 * int(line.split()[1])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
