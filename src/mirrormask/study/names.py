"""One way to refuse an unknown name: with the nearest known one, and all of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from mirrormask.errors import ArgumentError


def refuse_unknown(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise if a name is not among the known ones.

    Raises:
        ArgumentError: Naming the value, the nearest known name and all of them.
    """
    names = list(known)
    if name in names:
        return
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? Known" if close else "known"
    raise ArgumentError(f"{kind}={name!r} is unknown; {hint} are {', '.join(names)}.")
