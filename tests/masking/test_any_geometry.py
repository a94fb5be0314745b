"""Every masking on every geometry: training stays finite and ends at the exact count."""

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
    GroupGate,
    Hyperbolic,
    Mirror,
    Power,
    PowerDecay,
)
from mirrormask.masking import (
    ACDC,
    SET,
    Block,
    Cycles,
    GradualCubic,
    Masking,
    NofM,
    RigL,
    Rows,
    StaticRandom,
)
from mirrormask.pressure import Constant

STEPS = 16
GEOMETRIES = [
    Euclidean(),
    Factors(),
    Mirror(),
    Depth(),
    Power(),
    Hyperbolic(A=5.0),  # its default belongs to large nets, and diverges on this one
    PowerDecay(),
    GroupGate(),
]
MASKINGS = {
    "acdc": ACDC(cycles=2),
    "acdc-rows": ACDC(cycles=2, pattern=Rows()),
    "rigl": RigL(updates=4, fraction=0.5),
    "set": SET(updates=4, fraction=0.5),
    "random": StaticRandom(),
    "lrr": Cycles(cycles=2),
    "wr": Cycles(cycles=2, rewind="weights", store=0.3),
    "2-of-4": GradualCubic(cuts=5, pattern=NofM(2, 4)),
    "blocks": GradualCubic(cuts=5, pattern=Block(rows=2, columns=4)),
    "rows": GradualCubic(cuts=5, pattern=Rows()),
}


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: type(geometry).__name__)
@pytest.mark.parametrize("masking", MASKINGS.values(), ids=MASKINGS)
def test_it_trains_and_ends_exactly(masking: Masking, geometry: Geometry) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))
    base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    recipe = mm.Recipe(geometry=geometry, pressure=Constant(strength=1e-3), masking=masking)
    optimizer = mm.sparsify(base, model, sparsity=0.5, steps=STEPS, method=recipe, seed=0)
    for number in range(STEPS):
        inputs = torch.randn(16, 8, generator=torch.Generator().manual_seed(number))
        inputs[:, 6:] = 0  # features that never occur: what is cut here has no gradient
        optimizer.zero_grad()
        (model(inputs) - inputs[:, :4]).square().mean().backward()
        optimizer.step()
        for name, mask in optimizer.masks().items():
            assert not model.get_parameter(name)[~mask].any()
    report = optimizer.finalize()
    assert report.zeros == report.asked_zeros == 72
    counted = sum(int((p == 0).sum()) for p in model.parameters() if p.ndim == 2)
    assert counted == 72
    assert all(p.isfinite().all() for p in model.parameters())
