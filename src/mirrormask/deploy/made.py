"""What is built from the arrays of a sparse matrix, kept until one of them changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

Arrays = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Row starts, columns and values of a CSR matrix."""


class Slot:
    """Keeps the last thing that was made.

    Addresses are compared, not tensors: ``share_memory()`` moves the memory of a tensor that stays
    the same object. Changes in place show in version counters, which inference tensors do not
    have: replace those instead of editing them.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: tuple[Hashable, Hashable, Any, tuple[torch.Tensor | None, ...]] | None = None

    @property
    def extra_bytes(self) -> int:
        """Bytes that what was made holds besides the arrays."""
        return 0 if self._held is None else getattr(self._held[2], "extra_bytes", 0)

    def get(
        self,
        arrays: Arrays,
        bias: torch.Tensor | None,
        options: Hashable,
        make: Callable[[], Any],
    ) -> Any:
        """Return what ``make`` built, built again if an array or an option is another now."""
        key = _state(arrays, bias)
        # One look at the attribute: another thread may replace it, but never change what it holds.
        held = self._held
        if held is not None and held[0] == key and held[1] == options:
            return held[2]
        made = make()
        # The tensors are kept so that no other can get their addresses, but for the values: what
        # was made holds their memory, and an operator's slot lives as long as they do.
        self._held = (key, options, made, (arrays[0], arrays[1], bias))
        return made


def _state(arrays: Arrays, bias: torch.Tensor | None) -> Hashable:
    # Flat and without loops: this runs in every call of a layer, which may last ten microseconds.
    starts, columns, values = arrays
    try:
        versions = starts._version, columns._version, values._version
    except RuntimeError:
        versions = -1, -1, -1
    return (
        starts.data_ptr(),
        columns.data_ptr(),
        values.data_ptr(),
        None if bias is None else (bias.data_ptr(), bias.numel()),
        starts.numel(),
        columns.numel(),
        values.numel(),
        versions,
    )


# Operators are functions and have no place to keep anything, so it hangs on their values tensor.
_SLOTS = WeakTensorKeyDictionary()


def made_for(
    arrays: Arrays,
    bias: torch.Tensor | None,
    options: Hashable,
    make: Callable[[Arrays], Any],
) -> Any:
    """Return what ``make`` builds for an operator's arguments, kept as long as ``values`` lives.

    ``make`` gets aliases of the arrays to hold, because who holds the tensor itself would keep it
    alive for ever.
    """
    values = arrays[2]
    slot: Slot | None = _SLOTS.get(values)  # type: ignore[no-untyped-call]
    if slot is None:
        slot = _SLOTS[values] = Slot()
    starts, columns, _ = arrays
    return slot.get(arrays, bias, options, lambda: make((starts, columns, values.detach())))
