"""The products of live weights against autograd on the whole matrix."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mirrormask.errors import ArgumentError
from mirrormask.kernels import kernel_status, kernels
from mirrormask.live.pattern import Pattern
from mirrormask.live.product import LinearProduct

needs_kernels = pytest.mark.skipif(kernels() is None, reason=kernel_status().reason)


def by_columns(x: torch.Tensor) -> torch.Tensor:
    """Return the same numbers with the last dimension outermost in memory."""
    return x.movedim(-1, 0).contiguous().movedim(0, -1)


@settings(max_examples=100)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    st.integers(0, 2**31),
)
def test_a_pattern_finds_every_weight_from_both_sides(rows, columns, share, seed):
    kept = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) >= share
    pattern, whole = Pattern.of(kept), torch.randn(rows, columns)
    values = pattern.gather(whole)
    assert torch.equal(pattern.kept, kept)
    assert torch.equal(pattern.spread(values), whole * kept)
    turned = torch.zeros(columns, rows)
    turned_rows = torch.repeat_interleave(
        torch.arange(columns), pattern.turned_starts.diff().long()
    )
    turned[turned_rows, pattern.turned_columns.long()] = values[pattern.turn]
    assert torch.equal(turned, (whole * kept).t())


@needs_kernels
@settings(max_examples=150)
@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.sampled_from([(), (1,), (2,), (3,), (17,), (64,), (70,), (2, 5), (0,)]),
    st.sampled_from([0.0, 0.5, 0.9, 0.99]),
    st.booleans(),
    st.sampled_from(["rows", "columns"]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_outputs_and_gradients_are_those_of_the_masked_matrix(
    width, outputs, batch, share, biased, layout, turned, seed
):
    torch.manual_seed(seed)
    kept = torch.rand(outputs, width) >= share
    pattern = Pattern.of(kept)
    whole = (torch.randn(outputs, width, dtype=torch.float64) * kept).requires_grad_(True)
    bias = torch.randn(outputs, dtype=torch.float64).requires_grad_(True) if biased else None
    x = torch.randn(*batch, width, dtype=torch.float64).requires_grad_(True)
    grad = torch.randn(*batch, outputs, dtype=torch.float64)
    expected = nn.functional.linear(x, whole, bias)
    expected.backward(grad)
    values = pattern.gather(whole.detach().float()).requires_grad_(True)
    b = None if bias is None else bias.detach().float().requires_grad_(True)
    narrow = x.detach().float()
    grad = grad.float()
    if turned:  # as the neighbours of a linked layer give them
        narrow, grad = by_columns(narrow), by_columns(grad)
    narrow.requires_grad_(True)
    product = LinearProduct(pattern)
    product.output_layout = layout
    out = product(narrow, values, b)
    assert out.reshape(-1, outputs).is_contiguous() or layout == "columns"
    out.backward(grad)
    pairs = [
        (out, expected),
        (narrow.grad, x.grad),
        (values.grad, pattern.gather(whole.grad)),
    ]
    if bias is not None and b is not None:
        pairs.append((b.grad, bias.grad))
    for found, wanted in pairs:
        assert found.shape == wanted.shape
        assert torch.allclose(found.double(), wanted, atol=1e-4, rtol=1e-4)


@needs_kernels
def test_only_what_is_asked_for_is_differentiated_and_only_once():
    pattern = Pattern.of(torch.rand(6, 5) < 0.5)
    values = torch.randn(pattern.columns.numel(), requires_grad=True)
    LinearProduct(pattern)(torch.randn(3, 5), values, None).sum().backward()
    assert values.grad is not None
    x = torch.randn(3, 5, requires_grad=True)
    (to_x,) = torch.autograd.grad(
        LinearProduct(pattern)(x, values, None).square().sum(), x, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        to_x.sum().backward()


@needs_kernels
def test_under_autocast_the_product_stays_float32():
    pattern = Pattern.of(torch.rand(6, 5) < 0.5)
    values = torch.randn(pattern.columns.numel(), requires_grad=True)
    x = torch.randn(3, 5)
    with torch.autocast("cpu", torch.bfloat16):
        out = LinearProduct(pattern)(x.bfloat16(), values, None)
    assert out.dtype == torch.float32
    out.sum().backward()
    assert values.grad.dtype == torch.float32


@needs_kernels
def test_what_does_not_fit_is_named():
    pattern = Pattern.of(torch.rand(6, 5) < 0.5)
    values = torch.randn(pattern.columns.numel())
    with pytest.raises(ArgumentError, match="4 features, this layer takes 5"):
        LinearProduct(pattern)(torch.randn(3, 4), values, None)
    with pytest.raises(ArgumentError, match="the input is on meta"):
        LinearProduct(pattern)(torch.randn(3, 5, device="meta"), values, None)
    for wrong in (torch.float64, torch.bfloat16):
        with pytest.raises(ArgumentError, match="the input is torch"):
            LinearProduct(pattern)(torch.randn(3, 5).to(wrong), values, None)
    for bad in (values.double(), torch.randn(1 + values.numel())):
        with pytest.raises(ArgumentError, match="do not fit"):
            LinearProduct(pattern)(torch.randn(3, 5), bad, None)


def test_without_kernels_the_reason_is_told(without_kernels):
    pattern = Pattern.of(torch.rand(6, 5) < 0.5)
    values = torch.randn(pattern.columns.numel())
    with pytest.raises(ArgumentError, match="switched off by MIRRORMASK_KERNELS"):
        LinearProduct(pattern)(torch.randn(3, 5), values, None)
