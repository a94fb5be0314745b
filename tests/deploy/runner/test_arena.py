"""Buffers share memory only while they are not alive together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mirrormask.deploy.runner.arena import place_buffers
from mirrormask.deploy.runner.operations import Pointwise
from mirrormask.deploy.runner.storage import View, image_dims, new_storage


def chain(sizes, readers):
    """Return operations of which each reads an earlier one's buffer."""
    made = [new_storage((1, 1, 1, size)) for size in sizes]
    found = []
    for index in range(1, len(made)):
        source = made[readers[index - 1] % index]
        view = View(storage=source, dims=image_dims(source.sizes))
        found.append(Pointwise(label="", a=view, b=None, out=made[index], what=0))
    return found


@given(
    st.lists(st.integers(1, 500), min_size=2, max_size=12),
    st.lists(st.integers(0, 11), min_size=11, max_size=11),
)
def test_living_buffers_never_overlap(sizes, readers):
    operations = chain(sizes, readers)
    total = place_buffers(operations)
    spans = {}
    for index, operation in enumerate(operations):
        for storage in (operation.out, *operation.reads()):
            spans[storage] = spans.get(storage, (index, index))[0], index
    placed = list(spans)
    for i, left in enumerate(placed):
        assert left.offset % 16 == 0 and left.offset + left.floats <= total
        for right in placed[i + 1 :]:
            alive = spans[left][0] <= spans[right][1] and spans[right][0] <= spans[left][1]
            apart = (
                left.offset + left.floats <= right.offset
                or right.offset + right.floats <= left.offset
            )
            assert apart or not alive


def test_a_long_chain_needs_two_buffers():
    operations = chain([100] * 50, range(49))
    assert place_buffers(operations) <= 2 * 176
