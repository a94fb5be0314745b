"""From an exported model to a network of the runner."""

from __future__ import annotations

# These register what they translate.
import mirrormask.deploy.runner.operators
import mirrormask.deploy.runner.operators_joining
import mirrormask.deploy.runner.operators_points
import mirrormask.deploy.runner.operators_pooling
import mirrormask.deploy.runner.operators_views  # noqa: F401
from mirrormask.deploy.runner.graph import ModelProgram
from mirrormask.deploy.runner.operations import Network
from mirrormask.deploy.runner.translator import Translator


def translate(program: ModelProgram, batch: int) -> Network:
    """Return the network that an exported model is.

    Raises:
        UnsupportedError: Something in it has no step.
    """
    return Translator(program.constants).run(program, batch)
