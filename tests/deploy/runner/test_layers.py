"""Every operation against torch in double precision, over shapes that hypothesis draws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from mirrormask.deploy.runner import UnsupportedError, plan
from mirrormask.runtime import Program

CASES = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SHARES = st.sampled_from([0.0, 0.5, 0.9, 1.0])


class Wrapped(nn.Module):
    """A function with modules of its own as a model."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function, self.held = function, nn.ModuleDict(modules)

    def forward(self, *inputs):
        return self.function(self.held, *inputs)


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


ACTIVATIONS = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "tanh": torch.tanh,
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 2.0),
    "clamp away from zero": lambda x: x.clamp(0.5, 3.0),
    "clamp from below": lambda x: x.clamp(min=-1.0),
    "clamp from above": lambda x: x.clamp_max(1.5),
    "leaky relu": lambda x: F.leaky_relu(x, 0.2),
    "elu": lambda x: F.elu(x, 1.3),
    "plus": lambda x: x + 1.5,
    "minus": lambda x: x - 1.5,
    "from": lambda x: 2.0 - x,
    "times": lambda x: 0.3 * x,
    "over": lambda x: x / 3,
    "negative": lambda x: -x,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(1, 7), (5, 33), (2, 9, 20), (3, 4, 5, 6)])
def test_activations_over_their_whole_range(agree, name, shape):
    net = Wrapped(lambda _, x: ACTIVATIONS[name](x))
    agree(net, torch.randn(shape) * 4, tolerance=1e-6)
    agree(net, torch.randn(shape) * 60, tolerance=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_carry_nan_and_infinity(name):
    x = torch.tensor([[float("nan"), float("inf"), -1.0, 0.0, 5.0, -float("inf"), 1.0, 2.0, 3.0]])
    net = Wrapped(lambda _, x: ACTIVATIONS[name](x))
    found = torch.from_numpy(Program(plan(net, (x,)))(x.numpy()))
    expected = ACTIVATIONS[name](x.double()).float()
    finite = torch.isfinite(x) | (x > 0)
    assert torch.allclose(found[finite], expected[finite], atol=1e-6)
    assert torch.isnan(found[0, 0])


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("batch", [1, 3])
def test_what_becomes_of_zeros_stays_out_of_the_padding(agree, thin, name, batch):
    """Between two padded convolutions there are gaps, which the second one reads as zeros."""
    net = Wrapped(
        lambda held, x: held["b"](ACTIVATIONS[name](held["a"](x))),
        a=nn.Conv2d(2, 3, 3, padding=1),
        b=nn.Conv2d(3, 2, 3, padding=1),
    )
    agree(thin(net, 0.3), torch.randn(batch, 2, 6, 5) * 3)


@CASES
@given(
    channels=st.integers(1, 9),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    batch=st.integers(1, 3),
    first=st.booleans(),
    padded=st.booleans(),
)
def test_gates(agree, thin, channels, size, batch, first, padded):
    def forward(held, x):
        y = held["a"](x)
        gate = torch.sigmoid(held["b"](y.mean((2, 3), keepdim=True)))
        return held["c"](gate * y if first else y * gate)

    pad = int(padded)
    net = Wrapped(
        forward,
        a=nn.Conv2d(2, channels, 3, padding=1),
        b=nn.Conv2d(channels, channels, 1),
        c=nn.Conv2d(channels, 3, 1 + 2 * pad, padding=pad),
    )
    agree(thin(net, 0.3), torch.randn(batch, 2, *size))


def test_gates_of_signals_and_of_features(agree, thin):
    def forward(held, x):
        y = held["a"](x)
        return y * held["b"](y.mean(2, keepdim=True))

    signal = Wrapped(forward, a=nn.Conv1d(4, 5, 3), b=nn.Conv1d(5, 5, 1))
    agree(thin(signal), torch.randn(3, 4, 9))
    tokens = Wrapped(lambda held, x, y: held["a"](x) * held["b"](y)[:, None], **_pair(7))
    agree(thin(tokens), torch.randn(3, 5, 7), torch.randn(3, 7))


def _pair(width):
    return {name: nn.Linear(width, width) for name in "ab"}


@pytest.mark.parametrize("shape", [(3, 6), (1, 6), (3, 6, 7), (2, 6, 5, 4)])
@pytest.mark.parametrize("last", [False, True])
def test_fixed_numbers_for_each_channel(agree, thin, shape, last):
    """Of images and signals the second dimension, of features and tokens the last."""
    if last and len(shape) == 4:
        return
    last = last or len(shape) == 2

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            count = shape[-1] if last else shape[1]
            sizes = (count,) if last else (count, *[1] * (len(shape) - 2))
            kinds = {2: nn.Linear, 3: nn.Conv1d, 4: nn.Conv2d}
            self.layer = nn.Linear(count, count) if last else kinds[len(shape)](count, count, 1)
            self.gain, self.shift = nn.Parameter(torch.rand(sizes)), nn.Parameter(torch.rand(sizes))

        def forward(self, x):
            return self.layer(self.shift + self.layer(x - self.shift) * self.gain)

    description = agree(thin(Scaled()), torch.randn(shape))
    # The product and the sum behind a layer are part of it.
    assert [label for label in description.labels if label not in ("copy", "copy out")] == [
        "sub",
        "linear" if last else f"conv{len(shape) - 2}d",
        "linear_1" if last else f"conv{len(shape) - 2}d_1",
    ]


class Gained(nn.Module):
    """Numbers of some shape after a layer."""

    def __init__(self, layer, *sizes):
        super().__init__()
        self.layer, self.gain = layer, nn.Parameter(torch.rand(sizes))

    def forward(self, x):
        return self.layer(x) * self.gain


def test_fixed_numbers_along_other_dimensions_have_no_step():
    image = torch.randn(2, 6, 5, 4)
    for sizes, reason in (((5, 1), "not the channels"), ((6, 5, 1), "several dimensions")):
        with pytest.raises(UnsupportedError, match=reason):
            plan(Gained(nn.Conv2d(6, 6, 1), *sizes).requires_grad_(False), (image,))


def test_one_number_over_features(agree, thin):
    """One token is not one channel."""
    net = nn.Sequential(nn.Linear(5, 4), nn.GELU(), nn.BatchNorm1d(1), nn.Linear(4, 3))
    agree(thin(net, 0.3), torch.randn(3, 1, 5))


@CASES
@given(
    widths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    kind=st.sampled_from(["images", "signals", "tokens", "features"]),
    batch=st.integers(1, 3),
    padded=st.booleans(),
)
def test_tensors_side_by_side(agree, thin, widths, kind, batch, padded):
    """Branches of an inception block, of a network of signals, of tokens and of features."""
    total, pad = sum(widths) + 2, int(padded)
    if kind in ("images", "signals"):
        make = nn.Conv2d if kind == "images" else nn.Conv1d
        branches = [make(2, width, 1 + 2 * pad, padding=pad) for width in widths]
        after = make(total, 3, 3, padding=1)
        shape = (batch, 2, 6, 5) if kind == "images" else (batch, 2, 9)
    else:
        branches = [nn.Linear(2, width) for width in widths]
        after = nn.Linear(total, 3)
        shape = (batch, 7, 2) if kind == "tokens" else (batch, 2)
    axis = 1 if kind in ("images", "signals") else -1

    def forward(held, x):
        parts = [layer(x) for name, layer in held.items() if name != "after"]
        return held["after"](torch.cat([*parts, x], axis))

    layers = {f"b{index}": layer for index, layer in enumerate(branches)}
    agree(thin(Wrapped(forward, **layers, after=after), 0.3), torch.randn(shape))


def test_tokens_in_a_row(agree, thin):
    net = Wrapped(
        lambda held, x, y: held["a"](torch.cat([held["b"](x), y, held["b"](x)], 1)), **_pair(6)
    )
    agree(thin(net), torch.randn(3, 4, 6), torch.randn(3, 1, 6))


@CASES
@given(
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    batch=st.integers(1, 3),
    stride=st.integers(1, 2),
)
def test_zeros_around_images(agree, thin, pads, size, batch, stride):
    net = Wrapped(
        lambda held, x: held["b"](F.pad(held["a"](x), pads)),
        a=nn.Conv2d(2, 3, 1),
        b=nn.Conv2d(3, 2, 3, padding=1, stride=stride),
    )
    agree(thin(net, 0.3), torch.randn(batch, 2, *size))


@pytest.mark.parametrize("batch", [1, 3])
def test_layers_over_features_of_images(agree, thin, batch):
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
    direct = Wrapped(
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
def test_attention(agree, heads, depth, tokens, batch, causal):
    width = heads * depth
    layers = {name: nn.Linear(width, width) for name in "qkvo"}

    def forward(held, x):
        n, t, _ = x.shape
        parts = [held[name](x).view(n, t, heads, depth).transpose(1, 2) for name in "qkv"]
        mixed = F.scaled_dot_product_attention(*parts, is_causal=causal)
        return held["o"](mixed.transpose(1, 2).reshape(n, t, width))

    agree(Wrapped(forward, **layers), torch.randn(batch, tokens, width) * 2, tolerance=5e-5)


def _twice(x):
    return x + x


def _rectified(x):
    return F.relu(x) + x


SUMS = {
    "both operands are products": lambda held, x: held["a"](x) + held["b"](x),
    "the input itself": lambda held, x: F.relu(held["a"](x) + x),
    "the input first": lambda held, x: x + held["b"](held["a"](x)),
    "a product": lambda held, x: held["a"](x) * held["b"](x),
    "a difference": lambda held, x: held["a"](x) - held["b"](F.relu(x)),
    "a tensor with itself": lambda held, x: _twice(held["a"](x)),
    "a product that is read twice": lambda held, x: _rectified(held["a"](x)),
    "activations before": lambda held, x: F.relu(held["a"](x)) + F.gelu(held["b"](x)),
    "inputs alone": lambda held, x: x + x,
}


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("shape", [(1, 6, 5, 7), (3, 6, 8, 8), (1, 6), (5, 6), (16, 6), (2, 9, 6)])
def test_sums_and_products(agree, thin, name, shape):
    layers = {
        key: nn.Conv2d(6, 6, 3, padding=1) if len(shape) == 4 else nn.Linear(6, 6) for key in "ab"
    }
    agree(thin(Wrapped(SUMS[name], **layers), 0.5), torch.randn(shape))


@pytest.mark.parametrize("batch", [1, 4])
def test_batch_norm_is_folded_or_a_layer_of_its_own(agree, thin, batch):
    image = torch.randn(batch, 4, 9, 6)
    after = nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.ReLU())
    assert len(agree(thin(after), image).steps) == 3
    agree(thin(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1))), image)
    flat = torch.randn(batch, 7)
    agree(thin(nn.Sequential(nn.Linear(7, 9), nn.BatchNorm1d(9), nn.Linear(9, 3))), flat)
    agree(thin(nn.Sequential(nn.BatchNorm1d(7), nn.Linear(7, 3))), flat)


def test_views_cost_no_step(agree, thin):
    net = Wrapped(
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
def test_what_has_no_step_is_named(function, reason):
    with pytest.raises(UnsupportedError, match=reason):
        plan(Wrapped(function, a=nn.Linear(6, 6)).eval(), (torch.randn(3, 6),))
