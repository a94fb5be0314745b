"""Tensors side by side and zeros around them, against torch in double precision."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

CASES = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SHARES = st.sampled_from([0.0, 0.5, 0.9, 1.0])


@CASES
@given(
    widths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    kind=st.sampled_from(["images", "signals", "tokens", "features"]),
    batch=st.integers(1, 3),
    padded=st.booleans(),
)
def test_tensors_side_by_side(wrapped, agree, thin, widths, kind, batch, padded):
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
    agree(thin(wrapped(forward, **layers, after=after), 0.3), torch.randn(shape))


def test_tokens_in_a_row(wrapped, agree, thin):
    net = wrapped(
        lambda held, x, y: held["a"](torch.cat([held["b"](x), y, held["b"](x)], 1)),
        a=nn.Linear(6, 6),
        b=nn.Linear(6, 6),
    )
    agree(thin(net), torch.randn(3, 4, 6), torch.randn(3, 1, 6))


@CASES
@given(
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    batch=st.integers(1, 3),
    stride=st.integers(1, 2),
)
def test_zeros_around_images(wrapped, agree, thin, pads, size, batch, stride):
    net = wrapped(
        lambda held, x: held["b"](F.pad(held["a"](x), pads)),
        a=nn.Conv2d(2, 3, 1),
        b=nn.Conv2d(3, 2, 3, padding=1, stride=stride),
    )
    agree(thin(net, 0.3), torch.randn(batch, 2, *size))
