"""Exactly as many weights are dropped as asked, always the same ones: a sorting oracle."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrormask.errors import ArgumentError
from mirrormask.masking import keep_largest, zeros_asked

PROPERTY = settings(derandomize=True, deadline=None, max_examples=150)

# Few distinct values, so that ties at the threshold are the rule.
tied_values = st.sampled_from([0.0, 0.0, 1e-30, 0.5, 0.5, 1.0, 3.0, float("inf")])
any_values = st.floats(0, 2.0**100, width=32)
shapes = st.sampled_from([(1,), (3,), (2, 2), (1, 5), (2, 3, 2)])


@st.composite
def several_tensors(draw: st.DrawFn) -> list[torch.Tensor]:
    values = draw(st.sampled_from([tied_values, any_values]))
    tensors = []
    for shape in draw(st.lists(shapes, min_size=1, max_size=4)):
        size = torch.Size(shape).numel()
        numbers = draw(st.lists(values, min_size=size, max_size=size))
        tensors.append(torch.tensor(numbers).reshape(shape))
    return tensors


def sorted_oracle(tensors: list[torch.Tensor], zeros: int) -> list[bool]:
    """Sort (value, position) in plain Python and drop the first ``zeros``."""
    flat = [float(v) for tensor in tensors for v in tensor.flatten()]
    dropped = set(sorted(range(len(flat)), key=lambda i: (flat[i], i))[:zeros])
    return [i not in dropped for i in range(len(flat))]


@PROPERTY
@given(several_tensors(), st.floats(0, 1))
def test_equals_a_stable_sort(tensors: list[torch.Tensor], share: float) -> None:
    total = sum(t.numel() for t in tensors)
    zeros = round(share * total)
    masks = keep_largest(tensors, zeros)
    assert [m.shape for m in masks] == [t.shape for t in tensors]
    assert [bool(v) for m in masks for v in m.flatten()] == sorted_oracle(tensors, zeros)


@pytest.mark.parametrize("sparsity", [0.0, 1e-6, 0.5, 0.9, 0.95, 0.99, "all but one"])
@pytest.mark.parametrize(
    "shapes",
    [[(40, 25)], [(7,)], [(30, 20), (11,), (5, 4, 3, 3), (1, 1)]],
    ids=["one", "small", "many"],
)
@pytest.mark.parametrize("kind", ["distinct", "rounded", "equal", "zero", "duplicates"])
def test_count_is_exact_and_repeats(sparsity: float | str, shapes: list, kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    tensors = [torch.rand(shape, generator=generator) for shape in shapes]
    if kind == "rounded":
        tensors = [(4 * t).round() for t in tensors]
    elif kind == "equal":
        tensors = [torch.full_like(t, 0.25) for t in tensors]
    elif kind == "zero":
        tensors = [torch.zeros_like(t) for t in tensors]
    elif kind == "duplicates":
        tensors = [torch.full_like(t, float(t.flatten()[0])) for t in tensors]
    total = sum(t.numel() for t in tensors)
    fraction = 1 - 1 / total if isinstance(sparsity, str) else sparsity
    zeros = zeros_asked(fraction, total)
    assert abs(zeros - fraction * total) <= 0.5
    masks = keep_largest(tensors, zeros)
    assert sum(int((~m).sum()) for m in masks) == zeros
    again = keep_largest([t.clone() for t in tensors], zeros)
    assert all(torch.equal(a, b) for a, b in zip(masks, again, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_every_float_type_and_layout(dtype: torch.dtype) -> None:
    magnitudes = torch.rand(4, 6, 3, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    odd_layout = magnitudes.to(memory_format=torch.channels_last)
    transposed = torch.rand(5, 3, generator=torch.Generator().manual_seed(1)).to(dtype).t()
    masks = keep_largest([odd_layout, transposed], 100)
    wanted = keep_largest([magnitudes, transposed.contiguous()], 100)
    assert all(torch.equal(a, b) for a, b in zip(masks, wanted, strict=True))


def test_tensors_of_different_precision_compete_by_value() -> None:
    narrow, wide = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 1.0 + 1e-12], dtype=torch.float64)
    masks = keep_largest([narrow, wide], 2)
    assert [m.tolist() for m in masks] == [[False, True], [True, False]]


@pytest.mark.parametrize("zeros", [-1, 4])
def test_an_impossible_count_is_refused(zeros: int) -> None:
    with pytest.raises(ArgumentError, match=f"zeros={zeros} is impossible among 3"):
        keep_largest([torch.ones(3)], zeros)


def test_no_tensors_give_no_masks() -> None:
    assert keep_largest([], 0) == []
