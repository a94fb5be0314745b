"""Why a model, or an operator of it, is left to torch."""

from __future__ import annotations


class UnsupportedError(Exception):
    """The runner has no step for something that the model does; the text says for what.

    ``operator`` names the node of the exported graph that it is about, where one is to blame.
    """

    def __init__(self, reason: str, *, operator: str = "") -> None:
        super().__init__(reason)
        self.operator = operator


class PartError(UnsupportedError):
    """Parts of so many examples cannot be planned, or gain nothing; others may."""
