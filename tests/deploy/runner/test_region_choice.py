"""Regions that torch runs faster stay in torch, by measurement."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from mirrormask.deploy.runner.any_batch import open_model
from mirrormask.deploy.runner.reasons import PartError
from mirrormask.deploy.runner.splitting import split
from mirrormask.deploy.speed import Plan
from mirrormask.errors import ArgumentError
from mirrormask.kernels import kernel_status

pytestmark = pytest.mark.skipif(not kernel_status().active, reason="no compiled kernels")


class Net(nn.Module):
    """A convolution that torch does faster, behind one that it does many times slower."""

    def __init__(self) -> None:
        super().__init__()
        self.thin, self.full = (nn.Conv2d(256, 256, 3, padding=1) for _ in "ab")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.thin(x)
        n = x.shape[0]
        return torch.sin(self.full(torch.sin(y).view(n, 256, 14, 14)).reshape(n, -1, 14))


def test_what_torch_does_faster_stays_there(thin):
    net = Net().requires_grad_(False)
    thin(net.thin, 0.995), thin(net.full, 0.51)
    x = torch.randn(2, 256, 14, 14)
    opened = open_model(net, (torch.cat([x, x]),))
    made = split(opened, (x,), 1)
    assert [region.program.description.labels[1] for region in made.regions] == ["conv2d"]
    assert "1 x conv2d (faster in torch)" in made.left
    assert torch.allclose(made.graph(x)[0], net(x), atol=1e-4)
    # A plan names what stayed: nothing is measured then, and the same comes out.
    plan = Plan(choices={}, rewrite=False, part=1, slow=made.slow)
    assert Plan.from_json(plan.to_json()).slow == made.slow
    again = split(opened, (x,), 1, slow=made.slow)
    assert (again.slow, again.left) == (made.slow, made.left)
    with pytest.raises(PartError):
        split(opened, (x,), 1, slow=("conv2d", "conv2d_1"))


@pytest.mark.parametrize("slow", ["conv", [1], None, {"a": 1}])
def test_a_damaged_plan_is_refused(slow):
    text = json.dumps({"version": 1, "choices": {}, "rewrite": True, "part": 1, "slow": slow})
    with pytest.raises(ArgumentError, match="damaged"):
        Plan.from_json(text)
