"""Regions that torch runs faster stay in torch, by measurement."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from mirrormask.deploy.outputs import output_error
from mirrormask.deploy.runner import region_choice
from mirrormask.deploy.runner.any_batch import open_model
from mirrormask.deploy.runner.reasons import PartError
from mirrormask.deploy.runner.splitting import split
from mirrormask.deploy.speed import Plan
from mirrormask.deploy.timing import Timings
from mirrormask.errors import ArgumentError
from mirrormask.kernels import kernel_status

pytestmark = pytest.mark.skipif(not kernel_status().active, reason="no compiled kernels")


class Net(nn.Module):
    """Two convolutions, each between operators that have no step."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(4, 4, 3, padding=1) for _ in "ab")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, n = self.one(torch.sin(x)), x.shape[0]
        return torch.sin(self.two(torch.sin(y).view(n, 4, 6, 5)).reshape(n, -1, 5))


@pytest.fixture
def judged(monkeypatch):
    """Let the regions of the second convolution measure slow, whatever a busy machine says."""
    compared = []

    def times(runs, rounds):
        # Both do the same, on the values that the region really gets.
        compared.append(output_error(runs["program"](), runs["torch"]()))
        program = 1.1 if len(compared) % 2 == 0 else 0.9
        return Timings(milliseconds={"program": (program,) * rounds, "torch": (1.0,) * rounds})

    monkeypatch.setattr(region_choice, "interleave", times)
    return compared


@pytest.mark.parametrize("part", [1, 3])
def test_what_torch_does_faster_stays_there(thin, judged, part):
    net = thin(Net(), 0.7).requires_grad_(False)
    x = torch.randn(3, 4, 6, 5)
    opened = open_model(net, (torch.cat([x, x]),))
    made = split(opened, (x,), part)
    assert len(judged) == 2 and max(judged) < 1e-5
    assert [region.program.description.labels for region in made.regions] == [("conv2d",)]
    assert "1 x conv2d (faster in torch)" in made.left
    assert torch.allclose(made.graph(x)[0], net(x), atol=1e-5)
    # A plan names what stayed: nothing is measured then, and the same comes out.
    plan = Plan(choices={}, rewrite=False, part=1, slow=made.slow)
    assert Plan.from_json(plan.to_json()).slow == made.slow
    again = split(opened, (x,), part, slow=made.slow)
    assert (again.slow, again.left, len(judged)) == (made.slow, made.left, 2)
    with pytest.raises(PartError):
        split(opened, (x,), part, slow=("conv2d", "conv2d_1"))


@pytest.mark.parametrize("slow", ["conv", [1], None, {"a": 1}])
def test_a_damaged_plan_is_refused(slow):
    text = json.dumps({"version": 1, "choices": {}, "rewrite": True, "part": 1, "slow": slow})
    with pytest.raises(ArgumentError, match="damaged"):
        Plan.from_json(text)
