"""N of M: so many of each group, the largest ones, along the input dimension, to the count."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.masking import ACDC, Cycles, GradualCubic, Masking, NofM, StaticRandom


@st.composite
def cases(draw: st.DrawFn) -> tuple[NofM, list[Tensor]]:
    m = draw(st.integers(2, 6))
    pattern = NofM(draw(st.integers(1, m - 1)), m)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    tensors = []
    for _ in range(draw(st.integers(1, 3))):
        kernel = draw(st.sampled_from([(), (3,), (2, 3)]))
        shape = (draw(st.integers(1, 4)), m * draw(st.integers(1, 3)), *kernel)
        # Few distinct values, so that ties are common.
        tensors.append(torch.randint(0, 5, shape, generator=generator).float())
    return pattern, tensors


def groups(tensor: Tensor, m: int) -> list[list[float]]:
    """Return neighbours along the input dimension, by plain indexing."""
    rows = tensor.flatten(2) if tensor.ndim > 2 else tensor.unsqueeze(-1)
    return [
        [float(rows[out, first + i, place]) for i in range(m)]
        for out in range(rows.shape[0])
        for place in range(rows.shape[2])
        for first in range(0, rows.shape[1], m)
    ]


@given(cases(), st.sampled_from(["global", "uniform", "erk"]))
def test_each_group_keeps_its_n_largest(case: tuple[NofM, list[Tensor]], scope: str) -> None:
    pattern, tensors = case
    masks = pattern.keep(tensors, pattern.sparsity, scope)
    for tensor, mask in zip(tensors, masks, strict=True):
        pairs = zip(groups(tensor, pattern.m), groups(mask.float(), pattern.m), strict=True)
        for values, kept in pairs:
            largest = sorted(values)[pattern.m - pattern.n :]
            assert sorted(v for v, k in zip(values, kept, strict=True) if k) == largest


@given(cases(), st.floats(0, 1))
def test_on_the_ramp_the_count_is_exact_and_no_group_falls_below_n(
    case: tuple[NofM, list[Tensor]], part: float
) -> None:
    pattern, tensors = case
    sparsity = part * pattern.sparsity
    masks = pattern.keep(tensors, sparsity, "global")
    total = sum(tensor.numel() for tensor in tensors)
    assert sum(int((~mask).sum()) for mask in masks) == mm.masking.zeros_asked(sparsity, total)
    for mask in masks:
        assert min(sum(group) for group in groups(mask.float(), pattern.m)) >= pattern.n


def test_the_smallest_that_may_go_go_first() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0, 9.0, 8.0, 7.0, 0.5]])
    assert NofM(2, 4).keep([x], 0.25, "global")[0].tolist() == [[False] + [True] * 6 + [False]]
    # The third smallest of all is 2; of what is left in its group two more have to stay.
    assert not NofM(2, 4).keep([x], 0.375, "global")[0][0, 1]


@pytest.mark.parametrize(
    "masking",
    [
        GradualCubic(begin=0.1, end=0.6, cuts=5, pattern=NofM(1, 3)),
        ACDC(cycles=1, final=0.4, pattern=NofM(1, 3)),
        Cycles(cycles=2, rewind="weights", pattern=NofM(1, 3)),
        StaticRandom(pattern=NofM(1, 3)),
    ],
    ids=lambda masking: type(masking).__name__,
)
def test_every_timetable_ends_in_the_pattern(masking: Masking) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 2), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5))
    base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    recipe = mm.Recipe(masking=masking)
    optimizer = mm.sparsify(base, model, sparsity=2 / 3, steps=12, method=recipe, seed=0)
    for _ in range(12):
        optimizer.zero_grad()
        model(torch.randn(8, 3, 3, 3)).square().mean().backward()
        optimizer.step()
    report = optimizer.finalize()
    assert report.zeros == report.asked_zeros == (72 + 120) * 2 // 3
    for weight in (model[0].weight, model[3].weight):
        assert {sum(group) for group in groups((weight != 0).float(), 3)} == {1}


@pytest.mark.parametrize(("n", "m"), [(0, 4), (4, 4), (5, 4), (-1, 2)])
def test_what_is_no_pattern_is_refused(n: int, m: int) -> None:
    with pytest.raises(ArgumentError, match=f"n={n} of m={m} is no such pattern: use 1 <= n < m"):
        NofM(n, m)


@pytest.mark.parametrize(
    ("shape", "sparsity", "message"),
    [
        ((8, 8), 0.9, r"sparsity=0\.9 is not that of 2 of 4: ask for 0\.5, or for another n and m"),
        ((8, 6), 0.5, r"'w' has an input dimension of 6, no multiple of m=4: .*exclude='w'"),
        ((8,), 0.5, r"'w' of shape \(8,\) has no rows for the pattern 2 of 4: .*exclude='w'"),
    ],
)
def test_what_it_cannot_have_is_refused(
    shape: tuple[int, ...], sparsity: float, message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        NofM(2, 4).check({"w": shape}, sparsity)


def test_a_rounded_target_is_taken_only_if_it_means_the_same_count() -> None:
    NofM(1, 3).check({"w": (1000, 3000)}, 0.6666666)
    NofM(1, 3).check({"w": (10, 30)}, 0.667)
    with pytest.raises(ArgumentError, match=r"sparsity=0\.666667 is not that of 1 of 3"):
        NofM(1, 3).check({"w": (1000, 3000)}, 0.666667)


def test_a_refusal_leaves_the_model_as_it_was() -> None:
    model = nn.Linear(6, 4)
    before = copy.deepcopy(model.state_dict())
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    recipe = mm.Recipe(masking=GradualCubic(pattern=NofM(2, 4)))
    with pytest.raises(ArgumentError, match="no multiple of m=4"):
        mm.sparsify(base, model, sparsity=0.5, steps=5, method=recipe)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
