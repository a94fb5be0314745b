"""Models that are not built when they are wrapped, or change afterwards."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

import mirrormask as mm
from mirrormask.errors import LifecycleError, SelectionError


def build() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 5))


def wrap(net: nn.Module, **options: object) -> mm.SparseOptimizer:
    base = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    wanted: dict = {"sparsity": 0.8, "steps": 10} | options
    return mm.sparsify(base, net, **wanted)


def loss(net: nn.Module, step: int) -> Tensor:
    x = torch.randn(16, 12, generator=torch.Generator().manual_seed(step))
    return F.mse_loss(net(x), x.roll(1, 1)[:, :5].abs())


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        loss(net, step).backward()
        optimizer.step()


def test_a_model_on_the_meta_device_is_refused_and_works_once_it_has_values(check) -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 5))
    with pytest.raises(SelectionError, match=r"'0.weight' is on the meta device.*materialise"):
        wrap(net)
    net.load_state_dict(build().state_dict(), assign=True)
    check(net, loss)


def test_values_read_by_to_empty(check) -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 5))
    net.to_empty(device="cpu")
    torch.manual_seed(0)
    for layer in (net[0], net[2]):
        layer.reset_parameters()
    check(net, loss)


def assign(net: nn.Sequential) -> None:
    net.load_state_dict(copy.deepcopy(net.state_dict()), assign=True)


def replace(net: nn.Sequential) -> None:
    net[2] = nn.Linear(20, 5)


def remove(net: nn.Sequential) -> None:
    del net[2]


@pytest.mark.parametrize("change", [assign, replace, remove])
@pytest.mark.parametrize("call", ["step", "finalize"])
def test_tensors_swapped_behind_our_back_are_refused(change, call: str) -> None:
    net = build()
    optimizer = wrap(net)
    train(net, optimizer, 2)
    change(net)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(
        LifecycleError, match=r"'[02].weight' was replaced or.*call finalize before"
    ):
        getattr(optimizer, call)()
    assert optimizer.steps_done == 2
    assert not optimizer.finalized
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


class Twice(nn.Module):
    """A parametrisation that changes what the layer computes with."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_tensors_that_only_moved_in_the_model_are_found_again() -> None:
    net = build()
    optimizer = wrap(net)
    parametrize.register_parametrization(net[0], "weight", Twice())
    wrapped = nn.Sequential(nn.Sequential(*net))
    net[2] = nn.Sequential(net[2])
    train(net, optimizer, 10)
    report = optimizer.finalize()
    assert report.zeros == report.asked_zeros
    original = net[0].parametrizations.weight.original
    assert int((original == 0).sum()) == report.tensors[0].zeros
    assert len(list(wrapped.parameters())) == 4


@pytest.mark.parametrize("part", ["whole", "layer"])
def test_a_compiled_model_has_the_names_of_the_plain_one(part: str) -> None:
    plain, other = build(), build()
    if part == "whole":
        compiled = torch.compile(other, backend="eager")
    else:
        other[0] = torch.compile(other[0], backend="eager")
        compiled = other
    one, two = wrap(plain), wrap(compiled)
    assert list(two.masks()) == ["0.weight", "2.weight"]
    train(plain, one, 5)
    train(compiled, two, 5)
    two.load_state_dict(one.state_dict())  # checkpoints fit both
    assert mm.select(compiled, include="0.*")[0].name == "0.weight"
    data = [torch.randn(8, 12)]
    reports = [one.finalize(data), two.finalize(data)]
    assert [t.name for t in reports[1].tensors] == [t.name for t in reports[0].tensors]
    assert reports[1].flops == reports[0].flops
    assert [t.flops for t in reports[1].tensors] == [t.flops for t in reports[0].tensors]


class Shared(nn.Module):
    """One layer used three times, one frozen, and one tensor in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(12, 12)
        self.again = nn.Linear(12, 12, bias=False)
        self.again.weight = self.inner.weight
        self.frozen = nn.Linear(12, 12).requires_grad_(False)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.inner(x).tanh()
        return self.head(self.frozen(self.again(x)))


def test_shared_and_frozen_layers(check) -> None:
    torch.manual_seed(0)
    net = Shared()
    frozen = net.frozen.weight.clone()
    report = check(net, loss)
    assert [t.name for t in report.tensors] == ["inner.weight", "head.weight"]
    assert net.again.weight is net.inner.weight
    assert torch.equal(net.frozen.weight, frozen)
