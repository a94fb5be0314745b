"""A proximal step that zeroes more weights than asked does not spoil the exact count."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mirrormask as mm
from mirrormask.geometry import Euclidean, Factors, Geometry, Mirror
from mirrormask.masking import AtEnd, GradualCubic, Masking, ProjectAndFreeze
from mirrormask.pressure import Constant


@pytest.mark.parametrize("geometry", [Euclidean(), Factors(), Mirror()], ids=repr)
@pytest.mark.parametrize(
    "masking", [AtEnd(), ProjectAndFreeze(at=0.5), GradualCubic(begin=0.1, end=0.5)], ids=repr
)
@pytest.mark.parametrize("alpha", [0.002, 0.02])
def test_count_is_that_of_the_target(geometry: Geometry, masking: Masking, alpha: float) -> None:
    torch.manual_seed(0)
    net = nn.Linear(50, 40)
    pressure = Constant(strength=alpha, until=0.5, application="proximal")
    recipe = mm.Recipe(geometry=geometry, pressure=pressure, masking=masking)
    base = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    optimizer = mm.sparsify(base, net, sparsity=0.5, steps=40, method=recipe)
    inputs = torch.randn(64, 50)
    inputs[:, 10:] = 0  # no gradient ever moves four fifths of the weights
    most = 0
    for _ in range(40):
        optimizer.zero_grad()
        (net(inputs) - inputs[:, :40].relu()).square().mean().backward()
        optimizer.step()
        most = max(most, int((net.weight == 0).sum()))
    if isinstance(masking, AtEnd):
        assert most > 1000, "the pressure is to overshoot, or this proves nothing"
    report = optimizer.finalize()
    assert report.zeros == report.asked_zeros == 1000
    assert torch.isfinite(net.weight).all()
