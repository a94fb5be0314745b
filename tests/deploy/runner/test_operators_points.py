"""Activations, sums, products and gates against torch in double precision."""

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
def test_activations_over_their_whole_range(wrapped, agree, name, shape):
    net = wrapped(lambda _, x: ACTIVATIONS[name](x))
    agree(net, torch.randn(shape) * 4, tolerance=1e-6)
    agree(net, torch.randn(shape) * 60, tolerance=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_carry_nan_and_infinity(wrapped, name):
    x = torch.tensor([[float("nan"), float("inf"), -1.0, 0.0, 5.0, -float("inf"), 1.0, 2.0, 3.0]])
    net = wrapped(lambda _, x: ACTIVATIONS[name](x))
    found = torch.from_numpy(Program(plan(net, (x,)))(x.numpy()))
    expected = ACTIVATIONS[name](x.double()).float()
    finite = torch.isfinite(x) | (x > 0)
    assert torch.allclose(found[finite], expected[finite], atol=1e-6)
    assert torch.isnan(found[0, 0])


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("batch", [1, 3])
def test_what_becomes_of_zeros_stays_out_of_the_padding(wrapped, agree, thin, name, batch):
    """Between two padded convolutions there are gaps, which the second one reads as zeros."""
    net = wrapped(
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
def test_gates(wrapped, agree, thin, channels, size, batch, first, padded):
    def forward(held, x):
        y = held["a"](x)
        gate = torch.sigmoid(held["b"](y.mean((2, 3), keepdim=True)))
        return held["c"](gate * y if first else y * gate)

    pad = int(padded)
    net = wrapped(
        forward,
        a=nn.Conv2d(2, channels, 3, padding=1),
        b=nn.Conv2d(channels, channels, 1),
        c=nn.Conv2d(channels, 3, 1 + 2 * pad, padding=pad),
    )
    agree(thin(net, 0.3), torch.randn(batch, 2, *size))


def test_gates_of_signals_and_of_features(wrapped, agree, thin):
    def forward(held, x):
        y = held["a"](x)
        return y * held["b"](y.mean(2, keepdim=True))

    signal = wrapped(forward, a=nn.Conv1d(4, 5, 3), b=nn.Conv1d(5, 5, 1))
    agree(thin(signal), torch.randn(3, 4, 9))
    tokens = wrapped(
        lambda held, x, y: held["a"](x) * held["b"](y)[:, None],
        a=nn.Linear(7, 7),
        b=nn.Linear(7, 7),
    )
    agree(thin(tokens), torch.randn(3, 5, 7), torch.randn(3, 7))


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
def test_sums_and_products(wrapped, agree, thin, name, shape):
    layers = {
        key: nn.Conv2d(6, 6, 3, padding=1) if len(shape) == 4 else nn.Linear(6, 6) for key in "ab"
    }
    agree(thin(wrapped(SUMS[name], **layers), 0.5), torch.randn(shape))
