"""Parts that no named method joins: any geometry goes with any masking, and ends exactly."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mirrormask as mm
from mirrormask.geometry import (
    Depth,
    Euclidean,
    Factors,
    Geometry,
    Hyperbolic,
    Mirror,
    Power,
    PowerDecay,
)
from mirrormask.masking import ACDC, SET, Cycles, GradualCubic, Masking, NofM, RigL, Rows
from mirrormask.masking import StaticRandom as Random
from mirrormask.pressure import Constant, NoPressure, Pressure, SeekTarget

STEPS = 24

GEOMETRIES: dict[str, tuple[Geometry, Pressure]] = {
    "plain": (Euclidean(), NoPressure()),
    "pilot": (Factors(), SeekTarget(until=0.5, push=0.7)),
    "mirror": (Mirror(), Constant(strength=1e-3)),
    "ham": (Hyperbolic(A=20.0), NoPressure()),
    "power": (Power(), NoPressure()),
    "depth": (Depth(), Constant(strength=1e-4)),
    "pwd": (PowerDecay(), Constant(strength=1e-4)),
}

MASKINGS: dict[str, Masking] = {
    "gradual": GradualCubic(begin=0.1, end=0.6),
    "acdc": ACDC(cycles=2),
    "rigl": RigL(updates=5),
    "set": SET(updates=5),
    "random": Random(),
    "wr": Cycles(cycles=2, rewind="weights", store=0.2),
    "lrr": Cycles(cycles=2, rewind="rate"),
    "rows": GradualCubic(begin=0.1, end=0.6, pattern=Rows()),
    "1 of 4": Cycles(cycles=2, rewind="weights", pattern=NofM(1, 4)),
}


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_masking_takes_every_geometry(geometry: str, masking: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5))
    base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    form, pressure = GEOMETRIES[geometry]
    recipe = mm.Recipe(
        geometry=form, pressure=pressure, masking=MASKINGS[masking], rebalance=(0.5,)
    )
    optimizer = mm.sparsify(base, model, sparsity=0.75, steps=STEPS, method=recipe, seed=0)
    for step in range(STEPS):
        inputs = torch.randn(16, 12, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (model(inputs) - inputs[:, :5]).square().mean().backward()
        optimizer.step()
        for name, mask in optimizer.masks().items():
            assert (model.get_parameter(name)[~mask] == 0).all()
    report = optimizer.finalize()
    assert report.zeros == report.asked_zeros == 204
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert report.zeros == sum(int((model[layer].weight == 0).sum()) for layer in (0, 2))
