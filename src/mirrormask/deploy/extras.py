"""Import optional libraries where they are used, with one clear sentence where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from mirrormask.errors import MissingExtraError


def optional(name: str, purpose: str) -> Any:
    """Import an optional library.

    Raises:
        MissingExtraError: It is not installed, or does not load.

    Example:
        >>> optional("json", "reading").loads("[1]")
        [1]
    """
    try:
        return importlib.import_module(name)
    # A library built against another torch or numpy fails with errors of every kind.
    except (ImportError, RuntimeError, OSError) as error:
        package = name.split(".", maxsplit=1)[0]
        hint = "openvino" if package == "openvino" else "'mirrormask[deploy]'"
        raise MissingExtraError(
            f"{purpose} needs {package} ({error}): pip install {hint}"
        ) from error
