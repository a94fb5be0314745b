"""Names and values in messages: plain, short, and one way to refuse an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown_name(kind: str, name: object, known: Iterable[str]) -> str:
    """Return the sentence that refuses a name.

    Example:
        >>> unknown_name("method", "pilott", ["pilot", "gmp"])
        "method='pilott' is unknown: did you mean 'pilot'? Known are pilot, gmp."
    """
    names = list(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{kind}={name!r} is unknown: {hint}Known are {', '.join(names)}."


_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module")


def plain_name(name: str) -> str:
    """Return a name without what compilation and activation checkpointing put into it.

    Example:
        >>> plain_name("encoder._orig_mod.0.weight")
        'encoder.0.weight'
    """
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def shorten(text: str, most: int = 200) -> str:
    """Return a text with its end left out if it is too long for a message.

    Example:
        >>> shorten("0123456789", 8)
        '01234...'
    """
    return text if len(text) <= most else text[: most - 3] + "..."
