"""Which compiled kernels this process uses, in which variant, and why (not).

``MIRRORMASK_KERNELS`` may hold ``off`` or a variant: ``portable``, ``avx2`` or ``avx512``.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

from mirrormask.kernels.build import LIBRARY
from mirrormask.kernels.library import Library
from mirrormask.kernels.structures import VARIANTS

ENVIRONMENT = "MIRRORMASK_KERNELS"


@dataclass(frozen=True, kw_only=True)
class KernelStatus:
    """Whether compiled kernels are in use, which variant, and why (not)."""

    active: bool
    variant: str
    reason: str


@functools.cache
def _load() -> tuple[Library | None, KernelStatus]:
    wish = os.environ.get(ENVIRONMENT, "").strip().lower()
    if wish == "off":
        return None, _inactive(f"switched off by {ENVIRONMENT}")
    if wish and wish not in VARIANTS:
        return None, _inactive(f"{ENVIRONMENT}={wish!r} is unknown: off, {', '.join(VARIANTS)}")
    if not LIBRARY.exists():
        return None, _inactive(
            "not compiled at installation (no C compiler?): run  mirrormask doctor --build"
        )
    try:
        library = Library(LIBRARY)
    except OSError as error:
        return None, _inactive(f"{LIBRARY.name} cannot be loaded ({error}): build it again")
    if wish and wish not in library.variants:
        return None, _inactive(f"{ENVIRONMENT}={wish!r}: this processor has {library.variants}")
    library.variant = wish or library.variant
    reason = "asked for" if wish else "the widest that this processor has"
    return library, KernelStatus(active=True, variant=library.variant, reason=reason)


def _inactive(reason: str) -> KernelStatus:
    return KernelStatus(active=False, variant="none", reason=reason)


def kernels() -> Library | None:
    """Return the compiled kernels, or None where torch's CSR products take their place."""
    return _load()[0]


def kernel_status() -> KernelStatus:
    """Return what is active and why.

    Example:
        >>> kernel_status().active == (kernels() is not None)
        True
    """
    return _load()[1]
