"""Why a model is left to torch."""

from __future__ import annotations


class UnsupportedError(Exception):
    """The runner has no step for something that the model does; the text says for what."""
