"""Layers that feed each other alone leave copies out; what other code may see stays in rows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mirrormask as mm
from mirrormask.kernels import kernel_status, kernels
from mirrormask.live import go_live

pytestmark = pytest.mark.skipif(kernels() is None, reason=kernel_status().reason)


class Split(nn.Module):
    """Views what its first layer puts out, which only rows allow."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 12), nn.Linear(12, 4)
        self.seen: object = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = hidden = self.first(x)
        return self.second(torch.relu(hidden.view(-1, 2, 6)).view(-1, 12))


class Branching(Split):
    """Another layer reads the same value."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x)
        return self.second(torch.relu(hidden)) + hidden[:, :4]


def run_live(model: nn.Module) -> mm.SparseOptimizer:
    """Train beyond the last cut, go live, and take another step."""
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer = mm.sparsify(base, model, sparsity=0.5, steps=10)
    for step in range(8):
        if step == 7:
            assert len(go_live(optimizer).live) == 2
        optimizer.zero_grad()
        model(torch.randn(16, 8)).square().mean().backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("between", [nn.ReLU(), nn.GELU(), nn.Sequential(nn.SiLU(), nn.Tanh())])
def test_a_layer_that_feeds_only_another_hands_on_columns(between):
    model = nn.Sequential(nn.Linear(8, 12), between, nn.Linear(12, 4))
    optimizer = run_live(model)
    assert (model[0].product.output_layout, model[2].product.output_layout) == ("columns", "rows")
    hidden = model[0](torch.randn(16, 8))
    assert hidden.t().is_contiguous()
    assert not hidden.is_contiguous()
    with optimizer.whole():
        assert type(model[0]) is nn.Linear
        assert not hasattr(model[0], "product")
    assert model[0].product.output_layout == "columns"


@pytest.mark.parametrize("kind", [Split, Branching])
def test_what_other_code_sees_stays_in_rows(kind):
    model = kind()
    run_live(model)
    assert {model.first.product.output_layout, model.second.product.output_layout} == {"rows"}
    assert model.seen is None or type(model.seen) is torch.Tensor  # no stand-in of a trace


def test_a_hooked_layer_stays_in_rows():
    hooked = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))
    hooked[0].register_forward_hook(lambda module, args, out: out.view(-1, 3, 4).view(-1, 12))
    run_live(hooked)
    assert hooked[0].product.output_layout == "rows"
