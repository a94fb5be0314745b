"""The order over ranks is that of one process with everything, ties and NaN included."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mirrormask.masking.exact import keep_largest, keep_largest_each
from mirrormask.ranks.order import Part, keep_largest_of, kth_smallest_of, number_of, ordered_keys

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


class Meeting:
    """The ranks as threads: a sum is there when all have come."""

    def __init__(self, world: int) -> None:
        self.barrier = threading.Barrier(world, timeout=30)
        self.brought: list[Tensor] = []
        self.bytes = 0
        self.rounds = 0

    def add(self, tensor: Tensor) -> Tensor:
        self.brought.append(tensor.clone())
        self.barrier.wait()
        total = torch.stack(self.brought).sum(0)
        if self.barrier.wait() == 0:
            self.brought = []
            self.rounds += 1
            self.bytes += total.numel() * total.element_size()
        self.barrier.wait()
        return total

    def run(self, world: int, work: Callable[[int], Any]) -> list[Any]:
        results: list[Any] = [None] * world

        def one(rank: int) -> None:
            results[rank] = work(rank)

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(world)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


def cut(tensor: Tensor, world: int, rank: int) -> Part:
    """As FSDP cuts: equal numbers of rows, rounded up; the last ranks may have none."""
    rows = -(-len(tensor) // world)
    begin = min(len(tensor), rank * rows) * tensor[:1].numel()
    return Part(
        values=tensor[rank * rows : (rank + 1) * rows],
        counts=True,
        size=tensor.numel(),
        places_of=lambda index: index + begin,
    )


# Few values, so that ties are the rule; huge, tiny, negative and infinite ones among them.
numbers = st.sampled_from([0.0, -0.0, 1.0, 1.0, 2.5, -3.0, 1e-30, 1e-45, 3e38, float("inf")])


@st.composite
def tensors(draw: st.DrawFn) -> list[Tensor]:
    dtype = draw(st.sampled_from(DTYPES))
    shapes = draw(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 3)), min_size=1, max_size=3))
    if draw(st.booleans()):
        seed = draw(st.integers(0, 10**6))
        torch.manual_seed(seed)
        return [torch.randn(shape).to(dtype) for shape in shapes]
    return [
        torch.tensor([[draw(numbers) for _ in range(c)] for _ in range(r)]).to(dtype)
        for r, c in shapes
    ]


@given(tensors(), st.integers(1, 4), st.data())
def test_the_kth_value_is_that_of_torch(
    whole: list[Tensor], world: int, data: st.DataObject
) -> None:
    flat = torch.cat([tensor.flatten() for tensor in whole])
    k = data.draw(st.integers(1, flat.numel()))
    wanted = flat.to(torch.float32 if flat.dtype == torch.bfloat16 else flat.dtype).kthvalue(k)
    meeting = Meeting(world)
    found = meeting.run(
        world, lambda rank: kth_smallest_of([cut(t, world, rank) for t in whole], k, meeting.add)
    )
    assert all(torch.equal(value, wanted.values) for value in found)
    assert meeting.bytes == 256 * 8 * (8 if flat.dtype == torch.float64 else 4)


@given(tensors(), st.integers(1, 4), st.data())
def test_the_masks_are_those_of_one_process(
    whole: list[Tensor], world: int, data: st.DataObject
) -> None:
    total = sum(tensor.numel() for tensor in whole)
    zeros = data.draw(st.integers(0, total))
    wanted = keep_largest(whole, zeros)
    meeting = Meeting(world)
    found = meeting.run(
        world,
        lambda rank: keep_largest_of(
            [cut(t, world, rank) for t in whole], [0] * len(whole), [zeros], meeting.add
        ),
    )
    for index, mask in enumerate(wanted):
        assert torch.equal(torch.cat([rank[index] for rank in found]), mask)
    assert sum(int((~mask).sum()) for rank in found for mask in rank) == zeros


@given(tensors(), st.integers(1, 4), st.data())
def test_many_thresholds_take_the_rounds_of_one(
    whole: list[Tensor], world: int, data: st.DataObject
) -> None:
    zeros = [data.draw(st.integers(0, tensor.numel())) for tensor in whole]
    wanted = keep_largest_each(whole, zeros)
    meeting = Meeting(world)
    heap = list(range(len(whole)))
    found = meeting.run(
        world,
        lambda rank: keep_largest_of(
            [cut(t, world, rank) for t in whole], heap, zeros, meeting.add
        ),
    )
    for index, mask in enumerate(wanted):
        assert torch.equal(torch.cat([rank[index] for rank in found]), mask)
    assert meeting.rounds <= (8 if whole[0].dtype == torch.float64 else 4) + 2


def test_replicas_are_counted_once() -> None:
    values = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0])
    meeting = Meeting(3)

    def work(rank: int) -> list[Tensor]:
        part = Part(values=values, counts=rank == 0, size=5, places_of=lambda index: index)
        return keep_largest_of([part], [0], [2], meeting.add)

    for masks in meeting.run(3, work):
        assert masks[0].tolist() == [True, False, True, False, True]


def test_nan_counts_as_largest_whatever_its_sign() -> None:
    minus_nan = torch.tensor([-1], dtype=torch.int32).view(torch.float32)
    values = torch.cat([torch.tensor([torch.nan, torch.inf, 1.0]), minus_nan])
    keys = ordered_keys(values)
    assert keys[0] == keys[3] > keys[1] > keys[2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_key_is_its_number(dtype: torch.dtype) -> None:
    values = torch.tensor([-torch.inf, -2.5, -1e-40, 0.0, 1e-40, 7.0, torch.inf], dtype=dtype)
    assert torch.equal(number_of(ordered_keys(values), dtype), values)
    assert ordered_keys(values).tolist() == sorted(ordered_keys(values).tolist())
