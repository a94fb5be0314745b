"""Boxes, draws and checksums do not depend on how a tensor is cut."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from mirrormask.errors import RankError
from mirrormask.ranks import Box, Ranks, checksum, count_true, draw
from mirrormask.ranks.checksum import bits_sum


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    starts = [draw(st.integers(0, size)) for size in shape]
    lengths = [
        draw(st.integers(0, size - start)) for size, start in zip(shape, starts, strict=True)
    ]
    return Box(
        mesh=None,
        placements=(),
        shape=tuple(shape),
        starts=tuple(starts),
        lengths=tuple(lengths),
        speaks=True,
    )


@given(boxes(), st.integers(1, 7))
def test_places_and_samples_are_those_of_the_whole(box: Box, stride: int) -> None:
    whole = torch.arange(torch.Size(box.shape).numel()).view(box.shape)
    held = box.cut_out(whole).flatten()
    assert torch.equal(box.places_of(torch.arange(len(held))), held)
    chosen = held[box.every(stride, torch.device("cpu"))]
    assert torch.equal(chosen, held[held % stride == 0])


def test_draws_in_pieces_are_one_draw() -> None:
    # What a rank passes over is drawn in pieces of its own size: the sequence must not notice.
    one, two = Generator().manual_seed(5), Generator().manual_seed(5)
    whole = torch.rand(100_003, generator=one)
    pieces = torch.cat([torch.rand(n, generator=two) for n in (7, 65_536, 15, 1, 34_444)])
    assert torch.equal(whole, pieces)
    assert torch.equal(draw(torch.zeros(3, 2), Generator().manual_seed(5)).flatten(), whole[:6])


def test_a_checksum_tells_masks_apart() -> None:
    masks = [torch.rand(40, 30, generator=Generator().manual_seed(1)) > 0.5, torch.ones(3) > 0]
    first = int(checksum(masks))
    assert first == int(checksum([mask.clone() for mask in masks]))
    seen = {first}
    for place in range(40):
        other = masks[0].clone()
        other[place, place % 30] ^= True
        seen.add(int(checksum([other, masks[1]])))
    assert len(seen) == 41
    assert int(checksum([masks[0].flatten()[:3], masks[1]])) != int(
        checksum([masks[1], masks[0].flatten()[:3]])
    )


def test_bits_tell_zeros_and_places_apart() -> None:
    zero, minus = torch.zeros(2), torch.tensor([0.0, -0.0])
    assert bits_sum([zero]) != bits_sum([minus])
    assert bits_sum([zero, minus]) != bits_sum([minus, zero])
    assert bits_sum([minus.to(torch.bfloat16)]) != bits_sum([minus])


def test_one_process_agrees_with_itself() -> None:
    ranks = Ranks()
    assert (ranks.size, ranks.rank, ranks.members) == (1, 0, [0])
    ranks.agree({"anything": 1})
    with pytest.raises(RankError, match="Rank 0 refused, and with it all others: no"):
        ranks.agree({"refused": "no"})
    numbers = torch.tensor([2.0])
    assert torch.equal(ranks.mean(ranks.least(numbers)), numbers)
    assert copy.deepcopy(ranks) is ranks
    assert pickle.loads(pickle.dumps(ranks)).size == 1


def test_counts_of_plain_tensors() -> None:
    masks: list[Tensor] = [torch.tensor([True, False]), torch.ones(2, 2, dtype=torch.bool)]
    assert count_true(masks).tolist() == [1, 4]
