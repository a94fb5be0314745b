"""Run planned networks without torch: numpy in, numpy out, a few megabytes of memory."""

from mirrormask.runtime.description import Description, Port
from mirrormask.runtime.program import Program

__all__ = ["Description", "Port", "Program"]
