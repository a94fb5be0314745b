"""Plan a whole model once: from its exported graph to a list of steps that run without Python.

``graph`` reads the model, ``translate`` turns torch's operators into ``operations`` on ``storage``,
``fusing`` lets products do what follows them, ``arena`` gives buffers their places and ``emit``
writes the steps that ``mirrormask.runtime`` runs.
"""

from mirrormask.deploy.runner.planning import plan
from mirrormask.deploy.runner.reasons import UnsupportedError

__all__ = ["UnsupportedError", "plan"]
