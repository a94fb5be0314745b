"""Convolutions on live weights against torch's in double precision."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from mirrormask.deploy.conv_product import ConvGeometry
from mirrormask.deploy.sparse_conv import geometry_of
from mirrormask.errors import ArgumentError
from mirrormask.kernels import kernel_status, kernels
from mirrormask.live.conv_product import ConvProduct
from mirrormask.live.layers import product_of
from mirrormask.live.pattern import Pattern

needs_kernels = pytest.mark.skipif(kernels() is None, reason=kernel_status().reason)


def sizes(axes: int, least: int, most: int):
    return st.tuples(*[st.integers(least, most)] * axes)


@st.composite
def layers(draw):
    """A convolution of one or two dimensions, and the shape of an input that fits it."""
    axes, groups = draw(st.sampled_from([1, 2, 2])), draw(st.sampled_from([1, 1, 2, 3]))
    kind = (nn.Conv1d, nn.Conv2d)[axes - 1]
    channels, outputs = (groups * draw(st.integers(1, 6)) for _ in range(2))
    kernel, stride, dilation = (draw(sizes(axes, 1, 4)) for _ in range(3))
    padding, image = draw(sizes(axes, 0, 3)), draw(sizes(axes, 1, 17))
    for size, pad, tap, hole in zip(image, padding, kernel, dilation, strict=True):
        assume(size + 2 * pad > hole * (tap - 1))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    layer = kind(
        channels, outputs, kernel, stride, padding, dilation, groups, bias=draw(st.booleans())
    )
    batch = draw(st.sampled_from([(), (0,), (1,), (2,), (5,), (16,), (19,), (33,)]))
    return layer, (*batch, channels, *image)


def masked(layer: nn.Module, share: float) -> torch.Tensor:
    """Zero a random share of the layer's weights and return where the others are."""
    kept = torch.rand(layer.weight.shape) >= share
    layer.weight.data *= kept
    return kept


@settings(max_examples=100)
@given(layers(), st.sampled_from([0.0, 0.3, 0.9, 1.0]))
def test_a_pattern_finds_every_weight_from_both_sides(drawn, share):
    layer, _ = drawn
    kept = masked(layer, share)
    geometry = geometry_of(layer)
    pattern = Pattern.of_kernel(kept, geometry)
    values = pattern.gather(layer.weight.detach())
    assert torch.equal(pattern.kept, kept)
    assert torch.equal(pattern.spread(values), layer.weight.detach())
    # Written out by hand: each weight's row on both sides.
    height, width = geometry.kernel
    whole = layer.weight.detach().reshape(*kept.shape[:2], height, width)
    inside = geometry.in_channels // layer.groups

    def phase_of(y, x):
        (dy, dx), (sy, sx) = geometry.dilation, geometry.stride
        return y * dy % sy, x * dx % sx

    phases = sorted({phase_of(y, x) for y in range(height) for x in range(width)})
    rows = torch.repeat_interleave(torch.arange(kept.shape[0]), pattern.starts.diff().long())
    turned_rows = torch.repeat_interleave(
        torch.arange(len(phases) * geometry.in_channels), pattern.turned_starts.diff().long()
    )
    there = {}
    for row, column, value in zip(rows, pattern.columns, values, strict=True):
        channel, y, x = (int(i) for i in torch.unravel_index(column, (10**6, height, width)))
        within = channel - int(row) // (kept.shape[0] // layer.groups) * inside
        assert whole[row, within, y, x] == value
        there[int(row), channel, y, x] = float(value)
    turned_values = values[pattern.turn.long()]
    for row, column, value in zip(turned_rows, pattern.turned_columns, turned_values, strict=True):
        output, y, x = (int(i) for i in torch.unravel_index(column, (10**6, height, width)))
        phase, channel = divmod(int(row), geometry.in_channels)
        assert there.pop((output, channel, y, x)) == float(value)
        assert phases[phase] == phase_of(y, x)
    assert not there


@needs_kernels
@settings(max_examples=300, deadline=None)
@given(layers(), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]), st.booleans(), st.booleans())
def test_outputs_and_gradients_are_those_of_the_masked_kernel(drawn, share, last, needs_x):
    layer, shape = drawn
    kept = masked(layer, share)
    product = product_of(layer, kept)
    x = torch.randn(shape)
    if last and x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    plain, wide = copy.deepcopy(layer).double(), x.double().requires_grad_(True)
    if 0 in shape:  # torch has no empty batch of some kernels
        expected = torch.empty(0, *plain(torch.zeros(1, *shape[1:]).double()).shape[1:])
    else:
        expected = plain(wide)
    grad = torch.randn_like(expected)
    values = product.pattern.gather(layer.weight.detach()).requires_grad_(True)
    bias = None if layer.bias is None else layer.bias.detach().requires_grad_(True)
    narrow = x.detach().requires_grad_(needs_x)
    out = product(narrow, values, bias)
    out.backward(grad.float())
    assert out.shape == expected.shape
    if 0 in shape:
        assert not values.grad.any()
        return
    expected.backward(grad)
    pairs = [(out, expected), (values.grad, product.pattern.gather(plain.weight.grad))]
    if needs_x:
        pairs.append((narrow.grad, wide.grad))
    if bias is not None:
        pairs.append((bias.grad, plain.bias.grad))
    for found, wanted in pairs:
        assert found.shape == wanted.shape
        assert torch.allclose(found.double(), wanted, atol=2e-4, rtol=1e-4)


@needs_kernels
def test_outputs_and_gradients_lie_as_the_input_does():
    layer = nn.Conv2d(4, 8, 3, padding=1, bias=False)
    product = product_of(layer, masked(layer, 0.5))
    values = product.pattern.gather(layer.weight.detach())
    for form in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 4, 5, 6).contiguous(memory_format=form).requires_grad_(True)
        out = product(x, values, None)
        out.sum().backward()  # the gradient has no memory of its own
        assert out.is_contiguous(memory_format=form)
        assert x.grad.is_contiguous(memory_format=form)
        assert torch.allclose(out, layer(x), atol=1e-5)
    # An image of one channel is both; its strides tell what its maker meant.
    thin = nn.Conv2d(1, 8, 3, padding=1)
    product = product_of(thin, masked(thin, 0.5))
    x = torch.randn(2, 1, 5, 6)
    values = product.pattern.gather(thin.weight.detach())
    assert product(x, values, None).is_contiguous()
    x = x.clone(memory_format=torch.channels_last)
    assert product(x, values, None).is_contiguous(memory_format=torch.channels_last)
    assert product(x[:, :, ::2, ::3], values, thin.bias).shape == (2, 8, 3, 2)


@needs_kernels
def test_padding_of_uneven_sides_is_torchs_own():
    layer = nn.Conv2d(3, 5, (4, 2), padding="same", dilation=(1, 3))
    product = product_of(layer, masked(layer, 0.5))
    x = torch.randn(3, 3, 9, 8)
    values = product.pattern.gather(layer.weight.detach())
    assert torch.allclose(product(x, values, layer.bias), layer(x), atol=1e-5)


@needs_kernels
def test_threads_share_the_work_and_repeat_it_to_the_bit():
    layer = nn.Conv2d(16, 24, 3, padding=1)
    product = product_of(layer, masked(layer, 0.8))
    x, found = torch.randn(40, 16, 32, 32), []
    before = torch.get_num_threads()
    for threads in (1, 2, 3, 3):
        torch.set_num_threads(threads)
        values = product.pattern.gather(layer.weight.detach()).requires_grad_(True)
        x.requires_grad_(True).grad = None
        product(x, values, layer.bias).square().sum().backward()
        found.append((x.grad, values.grad))
    torch.set_num_threads(before)
    for grads in found[1:]:
        for one, other in zip(grads, found[0], strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(found[2], found[3], strict=True))


@needs_kernels
def test_under_autocast_it_stays_float32_and_only_once_differentiable():
    layer = nn.Conv2d(4, 6, 3)
    product = product_of(layer, masked(layer, 0.5))
    values = product.pattern.gather(layer.weight.detach()).requires_grad_(True)
    x = torch.randn(2, 4, 7, 7, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = product(x.bfloat16(), values, None)
    assert out.dtype == torch.float32
    out.sum().backward()
    assert x.grad.dtype == values.grad.dtype == torch.float32
    (to_x,) = torch.autograd.grad(product(x, values, None).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        to_x.sum().backward()


@needs_kernels
def test_copies_and_pickles_plan_anew():
    layer = nn.Conv2d(4, 6, 3)
    product = product_of(layer, masked(layer, 0.5))
    x, values = torch.randn(2, 4, 7, 7), product.pattern.gather(layer.weight.detach())
    expected, held = product(x, values, None), product.bytes
    for again in (copy.deepcopy(product), pickle.loads(pickle.dumps(product))):
        assert again.bytes == product.pattern.bytes < held
        assert torch.equal(again(x, values, None), expected)
    for size in range(7, 20):
        product(torch.randn(1, 4, size, 7), values, None)
    assert product.bytes == product.pattern.bytes + 4 * 2 * 4 * values.numel()


@needs_kernels
def test_what_does_not_fit_is_named():
    layer = nn.Conv2d(4, 6, 3)
    product = product_of(layer, masked(layer, 0.5))
    values = product.pattern.gather(layer.weight.detach())
    for shape in ((1, 3, 7, 7), (7, 7), (1, 1, 4, 7, 7)):
        with pytest.raises(ArgumentError, match="the 4 channels of this layer"):
            product(torch.randn(shape), values, None)
    with pytest.raises(ArgumentError, match="2 x 9 is smaller than the kernel"):
        product(torch.randn(1, 4, 2, 9), values, None)
    with pytest.raises(ArgumentError, match="the input is on meta"):
        product(torch.randn(1, 4, 7, 7, device="meta"), values, None)
    with pytest.raises(ArgumentError, match=r"the input is torch.float64: live weights take"):
        product(torch.randn(1, 4, 7, 7).double(), values, None)
    with pytest.raises(ArgumentError, match="do not fit"):
        product(torch.randn(1, 4, 7, 7), values[1:], None)
    huge = ConvGeometry(
        out_channels=6,
        in_channels=4,
        kernel=(3, 3),
        stride=(1, 1),
        dilation=(1, 1),
        padding=(2**29, 0, 0, 0),
        padding_mode="zeros",
    )
    with pytest.raises(ArgumentError, match="too large for one call"):
        ConvProduct(product.pattern, huge)(torch.randn(1, 4, 7, 7), values, None)


def test_without_kernels_the_reason_is_told(without_kernels):
    layer = nn.Conv2d(4, 6, 3)
    product = product_of(layer, masked(layer, 0.5))
    values = product.pattern.gather(layer.weight.detach())
    with pytest.raises(ArgumentError, match="switched off by MIRRORMASK_KERNELS"):
        product(torch.randn(1, 4, 7, 7), values, None)
