"""Budgets sum exactly to what was asked; ERK against an independent version."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrormask.errors import ArgumentError
from mirrormask.masking import zeros_asked, zeros_per_tensor

PROPERTY = settings(derandomize=True, deadline=None, max_examples=200)

sparsities = st.one_of(
    st.sampled_from([0.0, 1e-6, 0.5, 0.9, 0.95, 0.99]), st.floats(0, 1, exclude_max=True)
)
small_shapes = st.lists(
    st.lists(st.integers(1, 12), min_size=1, max_size=4), min_size=1, max_size=6
)
huge_shapes = st.lists(
    st.lists(st.integers(1, 200_000), min_size=2, max_size=3), min_size=1, max_size=6
)


def erk_densities(shapes: list[list[int]], sparsity: float) -> list[Fraction]:
    """The paper's rule in exact fractions: find epsilon, one overfull tensor made dense at a time.

    Written from the description in RigL: with ``raw = sum(shape) / prod(shape)``, every tensor
    has density ``epsilon * raw``; while the largest exceeds 1, that tensor is dense and epsilon is
    found again for the others.
    """
    raw = [Fraction(sum(shape), math.prod(shape)) for shape in shapes]
    sizes = [math.prod(shape) for shape in shapes]
    keep = sum(sizes) - zeros_asked(sparsity, sum(sizes))
    dense: list[int] = []
    while True:
        others = [i for i in range(len(shapes)) if i not in dense]
        if not others:
            return [Fraction(1)] * len(shapes)
        room = keep - sum(sizes[i] for i in dense)
        epsilon = Fraction(room) / sum(raw[i] * sizes[i] for i in others)
        largest = max(others, key=lambda i: raw[i])
        if epsilon * raw[largest] <= 1:
            return [Fraction(1) if i in dense else epsilon * raw[i] for i in range(len(shapes))]
        dense.append(largest)


@PROPERTY
@given(st.one_of(small_shapes, huge_shapes), sparsities, st.sampled_from(["uniform", "erk"]))
def test_sum_is_exact_and_none_exceeds_its_tensor(
    shapes: list[list[int]], sparsity: float, scope: str
) -> None:
    sizes = [math.prod(shape) for shape in shapes]
    zeros = zeros_per_tensor(shapes, sparsity, scope)
    assert sum(zeros) == zeros_asked(sparsity, sum(sizes))
    assert all(0 <= z <= size for z, size in zip(zeros, sizes, strict=True))


@PROPERTY
@given(st.one_of(small_shapes, huge_shapes), sparsities)
def test_erk_equals_the_paper_to_one_weight(shapes: list[list[int]], sparsity: float) -> None:
    sizes = [math.prod(shape) for shape in shapes]
    kept = [s - z for s, z in zip(sizes, zeros_per_tensor(shapes, sparsity, "erk"), strict=True)]
    for size, keep, density in zip(sizes, kept, erk_densities(shapes, sparsity), strict=True):
        assert abs(keep - density * size) < 1


@PROPERTY
@given(st.one_of(small_shapes, huge_shapes), sparsities)
def test_uniform_is_uniform_to_one_weight(shapes: list[list[int]], sparsity: float) -> None:
    sizes = [math.prod(shape) for shape in shapes]
    asked = Fraction(zeros_asked(sparsity, sum(sizes)), sum(sizes))
    for size, zeros in zip(sizes, zeros_per_tensor(shapes, sparsity, "uniform"), strict=True):
        assert abs(zeros - asked * size) < 1


def test_erk_of_resnet_shapes_known_by_hand() -> None:
    # raw densities 26/432, 38/2304, 74/640: keep 10 % of 3376 = 338 (337.6 rounded down by zeros).
    shapes = [(16, 3, 3, 3), (16, 16, 3, 3), (64, 10)]
    keep = 3376 - zeros_asked(0.9, 3376)
    epsilon = keep / (25 + 38 + 74)
    expected = [25 * epsilon, 38 * epsilon, 74 * epsilon]
    kept = [
        math.prod(s) - z for s, z in zip(shapes, zeros_per_tensor(shapes, 0.9, "erk"), strict=True)
    ]
    assert keep == 338
    assert all(abs(k - e) < 1 for k, e in zip(kept, expected, strict=True))
    assert sum(kept) == keep


@given(st.integers(1, 10**9))
@PROPERTY
def test_all_but_one_keeps_exactly_one(n: int) -> None:
    assert zeros_asked(1 - 1 / n, n) == n - 1


@PROPERTY
@given(sparsities, st.integers(1, 10**9))
def test_zeros_asked_is_the_nearest_whole_number(sparsity: float, n: int) -> None:
    zeros = zeros_asked(sparsity, n)
    assert 0 <= zeros <= n
    # float(sparsity * n) may be half an ulp off the exact product.
    assert abs(zeros - Fraction(sparsity) * n) <= Fraction(1, 2) + Fraction(n, 2**52)


def test_unknown_scope_names_itself() -> None:
    with pytest.raises(ArgumentError, match="scope='layer' is unknown: use 'global'"):
        zeros_per_tensor([(2, 2)], 0.5, "layer")
