"""Averages of weights cut as the model is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.masking import ProjectAndFreeze

STEPS = 20


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.outer = nn.Linear(8, 8)
        self.outer.weight = self.inner.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer(self.norm(self.inner(x)).relu())


def batch(step: int) -> torch.Tensor:
    return torch.randn(16, 8, generator=torch.Generator().manual_seed(step))


def trained(kind: str) -> tuple[Tied, AveragedModel, mm.SparseOptimizer]:
    torch.manual_seed(0)
    net = Tied()
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.5) if kind == "ema" else None)
    base = torch.optim.SGD(net.parameters(), lr=0.05)
    optimizer = mm.sparsify(base, net, sparsity=0.75, steps=STEPS)
    schedule = SWALR(optimizer, swa_lr=0.02, anneal_epochs=STEPS // 2)
    for step in range(STEPS):
        optimizer.zero_grad()
        F.mse_loss(net(batch(step)), batch(step).roll(1, 1)).backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(net)
    return net, average, optimizer


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_an_average_is_cut_where_the_model_is_and_nowhere_else(kind: str) -> None:
    net, average, optimizer = trained(kind)
    dense = copy.deepcopy(average.module)
    assert not (dense.inner.weight == 0).any()
    update_bn([batch(step) for step in range(4)], net)
    optimizer.finalize([batch(step) for step in range(4)])
    mm.apply_masks(average, optimizer.masks())
    cut = net.inner.weight == 0
    assert torch.equal(average.module.inner.weight == 0, cut)
    assert torch.equal(average.module.inner.weight[~cut], dense.inner.weight[~cut])
    assert average.module.outer.weight is average.module.inner.weight
    assert torch.equal(average.module.outer.bias, dense.outer.bias)
    for _ in range(3):  # from here on the average stays as sparse as the model
        average.update_parameters(net)
    assert torch.equal(average.module.inner.weight == 0, cut)


def test_masks_of_the_run_fit_copies_and_compiled_copies() -> None:
    net, _, optimizer = trained("ema")
    other = torch.compile(copy.deepcopy(net), backend="eager")
    nn.init.ones_(other.inner.weight)
    mm.apply_masks(other, optimizer.masks())
    assert torch.equal(other.inner.weight == 1, optimizer.masks()["inner.weight"])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (nn.Linear(8, 8), r"'inner.weight' is masked as \(8, 8\), and this Linear has no such"),
        (nn.ModuleDict({"inner": nn.Linear(9, 8)}), r"this ModuleDict has it as \(8, 9\)"),
    ],
)
def test_other_models_are_refused_and_left_alone(other: nn.Module, message: str) -> None:
    _, _, optimizer = trained("ema")
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(ArgumentError, match=message):
        mm.apply_masks(other, optimizer.masks())
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())


def test_at_target_is_told_from_the_masks() -> None:
    net = nn.Linear(8, 8)
    base = torch.optim.SGD(net.parameters(), lr=0.05)
    recipe = mm.Recipe(masking=ProjectAndFreeze(at=0.5))
    optimizer = mm.sparsify(base, net, sparsity=0.5, steps=4, method=recipe)
    seen = []
    for step in range(4):
        optimizer.zero_grad()
        net(batch(step)).sum().backward()
        optimizer.step()
        seen.append(optimizer.at_target)
    assert seen == [False, True, True, True]
    optimizer.finalize()
    assert optimizer.at_target
