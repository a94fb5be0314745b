"""Every error and warning that mirrormask raises on purpose.

Each message says which value was wrong and how to get out. Argument errors are also
``ValueError`` or ``TypeError``, so that code which catches those keeps working. The command line
turns a :class:`MirrormaskError` into one sentence on stderr and exit code 2.
"""

from __future__ import annotations


class MirrormaskError(Exception):
    """Base of all errors that a caller can act on."""


class ArgumentError(MirrormaskError, ValueError):
    """An argument is outside its domain: the message names the value and the domain."""


class SelectionError(ArgumentError):
    """The tensors asked for cannot be made sparse, or none was selected."""


class OptimizerError(MirrormaskError, ValueError):
    """The base optimizer cannot carry the method (parameters missing, unsupported kind)."""


class LifecycleError(MirrormaskError, RuntimeError):
    """A call came at the wrong time: a second ``finalize``, or more steps than announced."""


class NonFiniteError(MirrormaskError, ArithmeticError):
    """A loss or a weight became NaN or infinite."""


class RankError(MirrormaskError, RuntimeError):
    """Processes that train one model together differ, or it is sharded in a way not understood."""


class CheckpointError(MirrormaskError, ValueError):
    """A checkpoint is damaged, or belongs to another model, method or target."""


class DataError(MirrormaskError, OSError):
    """A data file is missing, truncated, damaged or not of the announced format."""


class OutputError(MirrormaskError, OSError):
    """A result cannot be written where it was asked to go."""


class MissingExtraError(MirrormaskError, ImportError):
    """An optional dependency is not installed: the message holds the install command."""


class MirrormaskWarning(UserWarning):
    """Something was changed on the caller's behalf, or will not do what it seems to."""
