"""What the loss moves weights by, as a pressure with a bound is told."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.geometry import Euclidean, Factors, Geometry, Mirror, ScaledMirror
from mirrormask.masking import AtEnd, GradualCubic
from mirrormask.pressure import SeekTarget

STEPS = 50


def run(
    bound: float | None,
    *,
    geometry: Geometry | None = None,
    lr: float = 0.1,
    momentum: float = 0.9,
    size: float = 1.0,
    masked: bool = False,
) -> list[tuple[float, float]]:
    """Return strength and budget rate of each step under gradients of one size and random sign."""
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Linear(30, 20, bias=False), nn.Linear(20, 10, bias=False)])
    base = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    recipe = mm.Recipe(
        geometry=geometry or ScaledMirror(),
        pressure=SeekTarget(bound=bound, push=1.0, until=1.0),
        masking=GradualCubic(begin=0.0, end=1.0) if masked else AtEnd(),
    )
    optimizer = mm.sparsify(base, model, sparsity=0.9, steps=STEPS, method=recipe)
    found = []
    for _ in range(STEPS):
        found.append((optimizer.alpha, optimizer.clock().rate))
        for parameter in model.parameters():
            parameter.grad = size * torch.randn_like(parameter).sign()
        optimizer.step()
    return found


@pytest.mark.parametrize("lr", [1e-4, 0.01])
@pytest.mark.parametrize("geometry", [ScaledMirror(), Mirror(a=0.5)], ids=repr)
@pytest.mark.parametrize("masked", [False, True])
def test_without_momentum_the_pull_is_the_gradient(lr, geometry, masked):
    # An L1 penalty of weight 2 alpha balances a gradient of that size: 0.5 of 0.02 here. Weights
    # that are cut do not move, and do not count.
    found = run(0.5, geometry=geometry, lr=lr, momentum=0.0, size=0.02, masked=masked)
    assert [alpha for alpha, _ in found[2:20]] == pytest.approx([0.005] * 18, rel=1e-5)
    free = run(None, geometry=geometry, lr=lr, momentum=0.0, size=0.02, masked=masked)
    assert min(alpha for alpha, _ in free[2:20]) > 0.005


def test_momentum_takes_noise_and_the_rate_as_they_are():
    # Steps of random sign add up to sqrt(1 / (1 - mu**2)) of one; the rate is 1 / (1 - mu).
    found = run(1.0, lr=1e-4, size=0.02)
    late = sum(alpha for alpha, _ in found[-10:]) / 10
    assert late == pytest.approx(0.02 / (1 - 0.81) ** 0.5 * 0.1 / 2, rel=0.05)


def test_a_bound_that_is_not_reached_changes_nothing():
    assert run(1e6) == run(None)


def test_weights_that_get_no_gradient_do_not_count():
    model = nn.ModuleList([nn.Linear(30, 20, bias=False), nn.Linear(20, 10, bias=False)])
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    recipe = mm.Recipe(geometry=ScaledMirror(), pressure=SeekTarget(bound=1.0))
    optimizer = mm.sparsify(base, model, sparsity=0.9, steps=STEPS, method=recipe)
    for _ in range(5):
        model[0].weight.grad = torch.full_like(model[0].weight, 0.01)
        optimizer.step()
    assert optimizer.alpha == pytest.approx(0.01 / 2)


@pytest.mark.parametrize("geometry", [Euclidean(), Factors()], ids=repr)
def test_other_geometries_are_refused_by_name(geometry):
    with pytest.raises(ArgumentError, match=f"{type(geometry).__name__} does not tell how far"):
        mm.Recipe(geometry=geometry, pressure=SeekTarget(bound=1.0))


def test_a_resumed_run_has_the_same_strengths():
    def make() -> tuple[Tensor, mm.SparseOptimizer]:
        torch.manual_seed(0)
        model = nn.Linear(30, 20, bias=False)
        base = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        recipe = mm.Recipe(geometry=ScaledMirror(), pressure=SeekTarget(bound=0.5))
        return model.weight, mm.sparsify(base, model, sparsity=0.9, steps=STEPS, method=recipe)

    def go(weight: Tensor, optimizer: mm.SparseOptimizer, steps: int) -> None:
        for _ in range(steps):
            seed = optimizer.steps_done
            weight.grad = 0.02 * torch.randn(20, 30, generator=torch.Generator().manual_seed(seed))
            optimizer.step()

    weight, optimizer = make()
    go(weight, optimizer, 7)
    state, values = copy.deepcopy(optimizer.state_dict()), weight.detach().clone()
    go(weight, optimizer, 20)
    again, resumed = make()
    again.data.copy_(values)
    resumed.load_state_dict(state)
    go(again, resumed, 20)
    assert torch.equal(again, weight)
    assert resumed.alpha == optimizer.alpha > 0
