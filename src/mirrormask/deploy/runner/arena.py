"""Give every buffer a place in one arena; buffers that are never alive together share theirs."""

from __future__ import annotations

from mirrormask.deploy.runner.operations import Operation
from mirrormask.deploy.runner.storage import Storage

_ALIGN = 16


def place_buffers(operations: list[Operation]) -> int:
    """Set each buffer's offset, first fit in the order of their sizes; return the floats in all."""
    spans = _lives(operations)
    placed: list[Storage] = []
    total = 0
    for storage in sorted(spans, key=lambda item: (-item.floats, spans[item])):
        begin, end = spans[storage]
        offset = 0
        for other in sorted(placed, key=lambda item: item.offset):
            apart = spans[other][1] < begin or end < spans[other][0]
            if apart or other.offset + _size(other) <= offset:
                continue
            if other.offset >= offset + _size(storage):
                break
            offset = other.offset + _size(other)
        storage.offset = offset
        placed.append(storage)
        total = max(total, offset + _size(storage))
    return total


def _size(storage: Storage) -> int:
    return -(-storage.floats // _ALIGN) * _ALIGN


def _lives(operations: list[Operation]) -> dict[Storage, tuple[int, int]]:
    """Return from which to which operation each buffer holds something."""
    spans: dict[Storage, tuple[int, int]] = {}
    for index, operation in enumerate(operations):
        for storage in (operation.out, *operation.reads()):
            if isinstance(storage, Storage):
                spans[storage] = spans.get(storage, (index, index))[0], index
    return spans
