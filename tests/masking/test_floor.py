"""A floor under every tensor: exact counts all the same, and no layer cut off."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrormask.errors import ArgumentError
from mirrormask.masking import AtEnd, Rows, keep_at, zeros_asked
from mirrormask.masking.floor import protect


@settings(max_examples=150)
@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=5),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1),
    st.integers(0, 99),
)
def test_counts_stay_exact_and_no_tensor_falls_below_its_floor(
    sizes: list[int], sparsity: float, floor: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Layers of very different sizes of weights: the first would lose everything to the others.
    scores = [torch.rand(n, generator=generator) * 10.0**i for i, n in enumerate(sizes)]
    kept = [m.sum().item() for m in keep_at(protect(scores, sparsity, floor), sparsity, "global")]
    total = sum(sizes)
    budget = total - zeros_asked(sparsity, total)
    assert sum(kept) == budget
    least = [max(1, math.floor(floor * budget * n / total)) for n in sizes]
    if floor > 0 and sum(least) <= budget:
        assert all(k >= m for k, m in zip(kept, least, strict=True))


def test_what_is_safe_in_a_tensor_is_its_best() -> None:
    scores = [torch.tensor([0.1, 0.3, 0.2]), torch.tensor([5.0, 6.0, 7.0])]
    kept = keep_at(protect(scores, 0.5, 0.1), 0.5, "global")
    assert [m.tolist() for m in kept] == [[False, True, False], [False, True, True]]


def test_without_a_floor_scores_are_as_they_were() -> None:
    scores = [torch.tensor([0.1, 0.3]), torch.tensor([5.0, 6.0])]
    assert all(a is b for a, b in zip(protect(scores, 0.5, 0.0), scores, strict=True))


@pytest.mark.parametrize("floor", [-0.1, 1.5, math.nan])
def test_a_floor_outside_its_domain_is_refused(floor: float) -> None:
    with pytest.raises(ArgumentError, match="is not a part"):
        AtEnd(floor=floor)


def test_a_floor_under_rows_is_refused() -> None:
    with pytest.raises(ArgumentError, match="protects single weights"):
        AtEnd(floor=0.1, pattern=Rows())


@pytest.mark.parametrize("scope", ["uniform", "erk"])
def test_a_floor_inside_tensors_is_refused(scope: str) -> None:
    with pytest.raises(ArgumentError, match=f"scope='{scope}'"):
        AtEnd(floor=0.1, scope=scope)
