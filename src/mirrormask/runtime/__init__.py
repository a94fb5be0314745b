"""Run planned networks without torch: numpy in, numpy out, a few megabytes of memory.

``mirrormask.deploy.save_program`` writes the file that :func:`load` reads::

    from mirrormask import runtime

    program = runtime.load("model.program")
    scores = program(images)  # float32 arrays, any number of examples
"""

from mirrormask.runtime.description import Description, Port
from mirrormask.runtime.program import Program
from mirrormask.runtime.program_file import load

__all__ = ["Description", "Port", "Program", "load"]
