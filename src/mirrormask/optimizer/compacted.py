"""What the optimizer asks of weights of which only the live part is kept at the moment."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Compacted(Protocol):
    """The layers of a run that train on live weights; see :mod:`mirrormask.live`."""

    def whole(self) -> AbstractContextManager[None]:
        """Give all tensors their shapes inside."""

    def end(self) -> None:
        """Give them their shapes for good."""
