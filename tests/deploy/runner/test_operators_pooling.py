"""Pooling of rows longer than one piece, windows beyond the edges, and what is no number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mirrormask.deploy.runner import plan
from mirrormask.kernels import kernel_status, kernels
from mirrormask.runtime import Program

pytestmark = pytest.mark.skipif(not kernel_status().active, reason="no compiled kernels")


@pytest.mark.parametrize("width", [127, 128, 129, 257, 400])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 1, 1), (3, 2, 1), (4, 3, 2)])
def test_long_rows_are_pooled_in_pieces(agree, width, kernel, stride, pad):
    x = torch.randn(2, 3, 7, width)
    agree(nn.MaxPool2d(kernel, stride, pad, ceil_mode=True), x)
    agree(nn.AvgPool2d(kernel, stride, pad), x)
    agree(nn.AvgPool2d(kernel, stride, pad, count_include_pad=False), x)


def test_windows_wider_than_a_piece_sees_are_taken_one_by_one(agree):
    x = torch.randn(1, 2, 4, 150)
    agree(nn.MaxPool2d((2, 40), (1, 2), (1, 20)), x)
    agree(nn.MaxPool2d((1, 12), stride=3, dilation=(1, 4)), x)


@pytest.mark.parametrize("kernel", [2, 3])
def test_the_largest_of_what_is_no_number_is_none(kernel, monkeypatch):
    layer = nn.MaxPool2d(kernel, 2, 1).eval()
    x = torch.randn(1, 1, 9, 40)
    x[0, 0, 0, 0] = x[0, 0, 4, 7] = x[0, 0, 8, 39] = float("nan")
    x[0, 0, 2] = -float("inf")
    library = kernels()
    assert library is not None
    for variant in library.variants:
        monkeypatch.setattr(library, "variant", variant)
        found = Program(plan(layer, (x,)), library)(x.numpy())
        assert np.array_equal(found, layer(x).numpy(), equal_nan=True), variant
