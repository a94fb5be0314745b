"""Every layer against torch in double precision, over shapes that hypothesis draws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from mirrormask.deploy.runner import UnsupportedError, plan

CASES = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SHARES = st.sampled_from([0.0, 0.5, 0.9, 1.0])


@CASES
@given(data=st.data(), sparsity=SHARES)
def test_convolutions(agree, thin, data, sparsity):
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inner, outer = groups * draw(st.integers(1, 4)), groups * draw(st.integers(1, 5))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    least = [d * (k - 1) + 1 - 2 * p for k, d, p in zip(kernel, dilation, padding, strict=True)]
    size = [draw(st.integers(max(1, low), max(1, low) + 14)) for low in least]
    batch = draw(st.integers(1, 3))
    layer = nn.Conv2d(
        inner,
        outer,
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
    )
    agree(thin(layer, sparsity), torch.randn(batch, inner, *size))


@CASES
@given(
    inner=st.integers(1, 9),
    outer=st.integers(1, 9),
    length=st.integers(5, 40),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    batch=st.integers(1, 3),
)
def test_convolutions_of_signals(agree, thin, inner, outer, length, kernel, stride, padding, batch):
    layer = nn.Conv1d(inner, outer, kernel, stride=stride, padding=padding)
    agree(thin(layer), torch.randn(batch, inner, length))


@CASES
@given(
    width=st.integers(1, 40),
    rows=st.integers(1, 40),
    batch=st.sampled_from([1, 2, 3, 7, 8, 9, 16, 17, 32, 33, 64, 65, 128, 130]),
    sparsity=SHARES,
    bias=st.booleans(),
)
def test_linear_layers(agree, thin, width, rows, batch, sparsity, bias):
    agree(thin(nn.Linear(width, rows, bias=bias), sparsity), torch.randn(batch, width))


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_wide_linear_layers_in_blocks(agree, thin, sparsity):
    net = nn.Sequential(nn.Linear(1100, 300), nn.ReLU(), nn.Linear(300, 20))
    agree(thin(net, sparsity), torch.randn(64, 1100))


@CASES
@given(
    tokens=st.integers(1, 20),
    width=st.integers(1, 20),
    batch=st.integers(1, 4),
    biased=st.booleans(),
)
def test_layer_norm_over_tokens(agree, tokens, width, batch, biased):
    layer = nn.LayerNorm(width, elementwise_affine=biased)
    if biased:
        nn.init.normal_(layer.weight), nn.init.normal_(layer.bias)
    agree(layer.eval(), torch.randn(batch, tokens, width) * 3 + 1, tolerance=5e-5)


@CASES
@given(data=st.data(), kind=st.sampled_from(["max", "mean", "inside"]))
def test_pooling(agree, data, kind):
    draw = data.draw
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, size // 2)) for size in kernel)
    size = [draw(st.integers(low, low + 40)) for low in kernel]
    if kind == "max":
        ceil, dilation = draw(st.booleans()), draw(st.integers(1, 2))
        size = [extent + 4 for extent in size]
        layer = nn.MaxPool2d(kernel, stride, padding, dilation=dilation, ceil_mode=ceil)
    else:
        layer = nn.AvgPool2d(kernel, stride, padding, count_include_pad=kind == "mean")
    agree(layer, torch.randn(draw(st.integers(1, 2)), draw(st.integers(1, 3)), *size))


@CASES
@given(
    windows=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    size=st.tuples(st.integers(1, 4), st.integers(1, 20)),
    batch=st.integers(1, 3),
)
def test_adaptive_pooling_and_flattening(agree, thin, windows, size, batch):
    image = tuple(window * out for window, out in zip(windows, size, strict=True))
    features = 3 * size[0] * size[1]
    net = nn.Sequential(nn.AdaptiveAvgPool2d(size), nn.Flatten(), nn.Linear(features, 5))
    agree(thin(net), torch.randn(batch, 3, *image))


@pytest.mark.parametrize("batch", [1, 3])
def test_layers_over_features_of_images(wrapped, agree, thin, batch):
    """A ConvNeXt block (arXiv 2201.03545): LayerNorm and linear layers between convolutions."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.depth = nn.Conv2d(6, 6, 7, padding=3, groups=6)
            self.norm, self.up, self.down = nn.LayerNorm(6), nn.Linear(6, 24), nn.Linear(24, 6)
            self.gain = nn.Parameter(torch.rand(6))
            nn.init.normal_(self.norm.bias)

        def forward(self, x):
            y = self.up(self.norm(self.depth(x).permute(0, 2, 3, 1)))
            return x + (self.gain * self.down(F.gelu(y))).permute(0, 3, 1, 2)

    blocks = thin(nn.Sequential(Block(), Block()), 0.3).requires_grad_(False)
    description = agree(blocks, torch.randn(batch, 6, 8, 5), tolerance=5e-5)
    # A copy in and one out; in each block a convolution, a norm, two products and GELU.
    assert len(description.steps) == 2 + 2 * 5
    # A padded convolution right behind a norm reads the gaps between the images.
    held = {"a": nn.Conv2d(6, 6, 3, padding=1), "n": blocks[0].norm}
    direct = wrapped(
        lambda held, x: held["a"](held["n"](held["a"](x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)),
        **held,
    )
    agree(thin(direct, 0.3), torch.randn(batch, 6, 8, 5), tolerance=5e-5)
    rows = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 9)).eval()
    agree(thin(rows), torch.randn(batch, 3, 4, 6), tolerance=5e-5)


def test_products_with_a_matrix_of_weights(agree, thin):
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(6, 9)), nn.Parameter(torch.randn(9))

        def forward(self, x):
            flat = torch.addmm(self.bias, x.reshape(-1, 6), self.weight)
            return flat.reshape(*x.shape[:-1], 9) + x @ self.weight

    agree(thin(Turned()).requires_grad_(False), torch.randn(3, 5, 6))


@CASES
@given(
    heads=st.integers(1, 4),
    depth=st.integers(1, 20),
    tokens=st.integers(1, 40),
    batch=st.integers(1, 3),
    causal=st.booleans(),
)
def test_attention(wrapped, agree, heads, depth, tokens, batch, causal):
    width = heads * depth
    layers = {name: nn.Linear(width, width) for name in "qkvo"}

    def forward(held, x):
        n, t, _ = x.shape
        parts = [held[name](x).view(n, t, heads, depth).transpose(1, 2) for name in "qkv"]
        mixed = F.scaled_dot_product_attention(*parts, is_causal=causal)
        return held["o"](mixed.transpose(1, 2).reshape(n, t, width))

    agree(wrapped(forward, **layers), torch.randn(batch, tokens, width) * 2, tolerance=5e-5)


@pytest.mark.parametrize("batch", [1, 4])
def test_batch_norm_is_folded_or_a_layer_of_its_own(agree, thin, batch):
    image = torch.randn(batch, 4, 9, 6)
    after = nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.ReLU())
    assert len(agree(thin(after), image).steps) == 1
    agree(thin(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1))), image)
    flat = torch.randn(batch, 7)
    agree(thin(nn.Sequential(nn.Linear(7, 9), nn.BatchNorm1d(9), nn.Linear(9, 3))), flat)
    agree(thin(nn.Sequential(nn.BatchNorm1d(7), nn.Linear(7, 3))), flat)


def test_views_cost_no_step(wrapped, agree, thin):
    net = wrapped(
        lambda held, x: held["b"](held["a"](x).reshape(2, 3, 4, 5).permute(0, 1, 3, 2).flatten(2)),
        a=nn.Linear(6, 20),
        b=nn.Linear(20, 3),
    )
    description = agree(thin(net), torch.randn(2, 3, 6))
    assert description.labels == ("copy", "linear", "linear_1", "copy out")


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda held, x: torch.sin(x), "operator sin"),
        (lambda held, x: held["a"](x) / x, "by a tensor"),
        (lambda held, x: x.clamp(min=held["a"](x)), "between tensors"),
        (lambda held, x: torch.erf(torch.sin(x)), "operators sin, erf"),
        (lambda held, x: held["a"](x).sum(), "operator sum"),
        (lambda held, x: x + held["a"](x)[:, :1], "operator"),
        (lambda held, x: x + held["a"](x).mean(1, keepdim=True), "a mean over other"),
        (lambda held, x: held["a"](x).t(), "first dimension"),
        (lambda held, x: held["a"](x) @ held["a"](x).t(), "weights that are computed"),
        (lambda held, x: torch.cat([x, held["a"](x)]), "along the batch"),
        (lambda held, x: F.pad(held["a"](x), (1, 0), value=1.0), "other than zeros"),
        (lambda held, x: F.pad(held["a"](x), (-1, 0)), "less than none"),
    ],
)
def test_what_has_no_step_is_named(wrapped, function, reason):
    with pytest.raises(UnsupportedError, match=reason):
        plan(wrapped(function, a=nn.Linear(6, 6)).eval(), (torch.randn(3, 6),))
