"""Blocks and rows: whole groups go, the smallest means first, and the count is exact."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.masking import ACDC, Block, GradualCubic, Rows, zeros_asked, zeros_per_tensor
from mirrormask.masking.groups import Groups


@st.composite
def cases(draw: st.DrawFn) -> tuple[Groups, list[Tensor], float]:
    side = st.integers(1, 4)
    pattern = draw(st.one_of(st.just(Rows()), st.builds(Block, rows=side, columns=side)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    shapes = st.lists(st.integers(1, 6), min_size=2, max_size=4)
    tensors = [
        torch.rand(draw(shapes), generator=generator) for _ in range(draw(st.integers(1, 3)))
    ]
    return pattern, tensors, draw(st.floats(0, 1, exclude_max=True))


def number_of(pattern: Groups, shape: torch.Size) -> list[tuple[int, ...]]:
    """Return the group of each weight of a matrix of one row a channel, in flat order."""
    width = shape[1:].numel()
    places = [(row, column) for row in range(shape[0]) for column in range(width)]
    if isinstance(pattern, Block):
        return [(row // pattern.rows, column // pattern.columns) for row, column in places]
    return [(row,) for row, _ in places]


def split(
    pattern: Groups, tensors: list[Tensor], masks: list[Tensor]
) -> list[tuple[list[float], list[bool]]]:
    """Return the magnitudes and the mask of each group."""
    found: dict[tuple[int, ...], tuple[list[float], list[bool]]] = {}
    for number, (tensor, mask) in enumerate(zip(tensors, masks, strict=True)):
        assert mask.shape == tensor.shape
        rows = zip(
            number_of(pattern, tensor.shape),
            tensor.flatten().tolist(),
            mask.flatten().tolist(),
            strict=True,
        )
        for group, value, kept in rows:
            values, masked = found.setdefault((number, *group), ([], []))
            values.append(value)
            masked.append(kept)
    return list(found.values())


def assert_whole_groups(
    pattern: Groups, tensors: list[Tensor], masks: list[Tensor], zeros: int
) -> None:
    assert sum(int((~mask).sum()) for mask in masks) == zeros
    means, partial = {True: [], False: []}, []
    for values, kept in split(pattern, tensors, masks):
        if len(set(kept)) == 1:
            means[kept[0]].append(sum(values) / len(values))
        else:
            partial.append(sum(values) / len(values))
            dropped = [v for v, k in zip(values, kept, strict=True) if not k]
            assert sorted(values)[: len(dropped)] == sorted(dropped)
    assert len(partial) <= 1
    # The group cut in part lies between the dropped and the kept ones.
    ordered = [*sorted(means[False]), *partial, *sorted(means[True])]
    assert ordered == pytest.approx(sorted(ordered))


@given(cases())
def test_whole_groups_compete_over_all_tensors(case: tuple[Groups, list[Tensor], float]) -> None:
    pattern, tensors, sparsity = case
    zeros = zeros_asked(sparsity, sum(tensor.numel() for tensor in tensors))
    assert_whole_groups(pattern, tensors, pattern.keep(tensors, sparsity, "global"), zeros)


@given(cases(), st.sampled_from(["uniform", "erk"]))
def test_or_inside_each_tensor(case: tuple[Groups, list[Tensor], float], scope: str) -> None:
    pattern, tensors, sparsity = case
    masks = pattern.keep(tensors, sparsity, scope)
    counts = zeros_per_tensor([tensor.shape for tensor in tensors], sparsity, scope)
    for tensor, mask, zeros in zip(tensors, masks, counts, strict=True):
        assert_whole_groups(pattern, [tensor], [mask], zeros)


def test_blocks_at_the_edges_are_smaller_and_judged_by_their_mean() -> None:
    x = torch.full((3, 5), 2.0)
    x[2, 4] = 1.0  # a block of its own: the smallest mean, and one weight
    keep = Block(rows=2, columns=4).keep([x], 1 / 15, "global")[0]
    assert (~keep).nonzero().tolist() == [[2, 4]]


@pytest.mark.parametrize("pattern", [Rows(), Block(rows=2, columns=3)], ids=repr)
@pytest.mark.parametrize("masking", [GradualCubic, ACDC])
def test_training_ends_in_whole_groups(pattern: Groups, masking: type) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 6))
    base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    recipe = mm.Recipe(masking=masking(pattern=pattern))
    optimizer = mm.sparsify(base, model, sparsity=0.5, steps=20, method=recipe, seed=0)
    for _ in range(20):
        optimizer.zero_grad()
        model(torch.randn(8, 2, 4, 4)).square().mean().backward()
        optimizer.step()
    assert optimizer.finalize().zeros == 126
    weights = [model[0].weight.detach(), model[3].weight.detach()]
    found = [set(kept) for _, kept in split(pattern, weights, [w != 0 for w in weights])]
    assert found.count({True, False}) <= 1
    assert {False} in found
    assert {True} in found


@pytest.mark.parametrize(("rows", "columns"), [(0, 4), (4, 0), (-1, 1)])
def test_an_empty_block_is_refused(rows: int, columns: int) -> None:
    with pytest.raises(ArgumentError, match=f"rows={rows}, columns={columns} holds nothing"):
        Block(rows=rows, columns=columns)


@pytest.mark.parametrize("pattern", [Rows(), Block()], ids=repr)
def test_vectors_have_no_rows(pattern: Groups) -> None:
    pattern.check({"w": (3, 4), "kernel": (3, 4, 2, 2)}, 0.5)
    with pytest.raises(ArgumentError, match=r"'b' of shape \(7,\) has no rows for the pattern"):
        pattern.check({"w": (3, 4), "b": (7,)}, 0.5)
