"""Structured methods: the zeros of finished nets lie as the names say, and the nets still work."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import mirrormask as mm


def in_part(groups: Tensor) -> int:
    """Return how many rows of a matrix are neither all zero nor all not."""
    alive = (groups != 0).sum(1)
    return int(((alive > 0) & (alive < groups.shape[1])).sum())


def test_two_of_each_four_inputs_are_left(run) -> None:
    result = run("gmp-2to4", 0.5)
    for layer in (0, 2):
        groups = result.model[layer].weight.detach().view(-1, 4)
        assert ((groups != 0).sum(1) == 2).all()
    assert result.accuracy > run("magnitude", 0.0).accuracy - 0.02


def test_blocks_are_whole(run) -> None:
    result = run("gmp-block", 0.8)
    first, last = (result.model[layer].weight.detach() for layer in (0, 2))
    blocks = first.view(25, 4, 16, 4).transpose(1, 2).reshape(-1, 16)
    edge = last[8:].view(2, 25, 4).transpose(0, 1).reshape(-1, 8)
    whole = last[:8].view(2, 4, 25, 4).transpose(1, 2).reshape(-1, 16)
    assert sum(in_part(groups) for groups in (blocks, whole, edge)) <= 1
    assert result.accuracy > run("magnitude", 0.0).accuracy - 0.08


def test_rows_are_whole(run) -> None:
    result = run("gmp-rows", 0.5)
    assert sum(in_part(result.model[layer].weight.detach()) for layer in (0, 2)) <= 1
    # Every class still has a row: the means of the last layer are the largest.
    assert (result.model[2].weight != 0).any(1).all()
    assert result.accuracy > run("magnitude", 0.0).accuracy - 0.05


@pytest.mark.parametrize("method", ["gmp-2to4", "gmp-block", "gmp-rows"])
def test_knobs_reach_their_parts(method: str) -> None:
    assert mm.METHODS[method].with_knobs({"end": 0.4}).masking.end == 0.4


def test_what_a_structure_cannot_be_is_listed() -> None:
    record = mm.METHODS["gmp-2to4"]
    assert record.sparsities == (0.5,)
    assert torch.tensor([bool(refusal.reason) for refusal in record.refuses]).all()
