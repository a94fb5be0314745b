"""Why a model, or an operator of it, is left to torch."""

from __future__ import annotations


class UnsupportedError(Exception):
    """The runner has no step for something that the model does; the text says for what.

    ``operator`` names the node of the exported graph that it is about, where one is to blame.
    """

    def __init__(self, reason: str, *, operator: str = "") -> None:
        super().__init__(reason)
        self.operator = operator


class NothingGainsError(UnsupportedError):
    """Torch runs all of a model faster, or nothing in it has both zeros and a step."""
