"""Exactly the zeros asked for: any sparsity, scope, start and method, and always the same ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import mirrormask as mm
from mirrormask.geometry import Factors
from mirrormask.masking import GradualCubic, ProjectAndFreeze, zeros_asked, zeros_per_tensor

SPARSITIES = [0.0, 1e-6, 0.5, 0.9, 0.95, 0.99, "all but one"]


def one() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(12, 5))


def many() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 7), nn.ReLU(), nn.Linear(7, 5))


def start(net: nn.Module, kind: str) -> nn.Module:
    with torch.no_grad():
        for layer in net[::2]:
            if kind == "zero":
                layer.weight.zero_()
            elif kind == "duplicates":
                layer.weight.copy_(layer.weight.sign() * 0.25)
            elif kind == "rounded":
                layer.weight.copy_((layer.weight * 8).round() / 8)
    return net


def zeros_of(net: nn.Module) -> list[int]:
    return [int((layer.weight == 0).sum()) for layer in net[::2]]


def run(
    net: nn.Module, train, recipe: mm.Recipe | str, sparsity: float | str, steps: int = 6
) -> tuple[mm.SparsityReport, int]:
    total = sum(layer.weight.numel() for layer in net[::2])
    fraction = 1 - 1 / total if isinstance(sparsity, str) else sparsity
    base = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    optimizer = mm.sparsify(base, net, sparsity=fraction, steps=steps, method=recipe)
    train(net, optimizer, range(steps))
    return optimizer.finalize(), zeros_asked(fraction, total)


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("make", [one, many])
def test_every_recipe_reaches_every_sparsity(train, recipe, sparsity: float | str, make) -> None:
    net = make()
    report, asked = run(net, train, recipe, sparsity)
    assert report.asked_zeros == asked
    assert report.zeros == sum(zeros_of(net)) == asked
    again = make()
    repeated, _ = run(again, train, recipe, sparsity)
    assert repeated == report
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["zero", "duplicates", "rounded"])
@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("scope", ["global", "uniform", "erk"])
def test_ties_and_zeros_without_training(kind: str, sparsity: float | str, scope: str) -> None:
    net = start(many(), kind)
    total = sum(layer.weight.numel() for layer in net[::2])
    fraction = 1 - 1 / total if isinstance(sparsity, str) else sparsity
    base = torch.optim.SGD(net.parameters(), lr=0.05)
    recipe = mm.Recipe(geometry=Factors(), masking=ProjectAndFreeze(scope=scope))
    optimizer = mm.sparsify(base, net, sparsity=fraction, steps=3, method=recipe)
    report = optimizer.finalize()
    asked = zeros_asked(fraction, total)
    masked = sum(int((~mask).sum()) for mask in optimizer.masks().values())
    # Zeros that the net came with count as kept weights like any other.
    assert masked == report.zeros == sum(zeros_of(net)) == asked
    assert all(torch.isfinite(p).all() for p in net.parameters())


@pytest.mark.parametrize("scope", ["uniform", "erk"])
@pytest.mark.parametrize("sparsity", [0.3, 0.7, 0.9, 0.95])
def test_budgets_by_tensor_are_kept(train, recipe, scope: str, sparsity: float) -> None:
    net = many()
    scoped = replace(recipe, masking=replace(recipe.masking, scope=scope, floor=0.0))
    run(net, train, scoped, sparsity, steps=8)
    shapes = [tuple(layer.weight.shape) for layer in net[::2]]
    assert zeros_of(net) == zeros_per_tensor(shapes, sparsity, scope)


@settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    sparsity=st.floats(0, 1, exclude_max=True),
    steps=st.integers(1, 5),
    beta=st.sampled_from([0.0, 1.0]),
    at=st.floats(0.05, 1),
)
def test_any_net_any_sparsity(
    sizes: list[int], sparsity: float, steps: int, beta: float, at: float
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))
    base = torch.optim.Adam(net.parameters(), lr=0.01)
    recipe = mm.Recipe(geometry=Factors(beta=beta), masking=GradualCubic(begin=0.0, end=at, cuts=3))
    optimizer = mm.sparsify(base, net, sparsity=sparsity, steps=steps, method=recipe)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.ones(2, sizes[0])).square().sum().backward()
        optimizer.step()
    report = optimizer.finalize()
    assert report.asked_zeros == zeros_asked(sparsity, report.weights)
    assert sum(int((~m).sum()) for m in optimizer.masks().values()) == report.asked_zeros
    assert report.zeros == report.asked_zeros


@pytest.mark.parametrize("method", [m for m in mm.METHODS if not mm.METHODS[m].sparsities])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.95, "all but one"])
def test_finalize_at_once_and_early_is_exact_too(train, method: str, sparsity: float | str) -> None:
    for steps_done in (0, 1):
        net = many()
        total = sum(layer.weight.numel() for layer in net[::2])
        fraction = 1 - 1 / total if isinstance(sparsity, str) else sparsity
        base = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        optimizer = mm.sparsify(base, net, sparsity=fraction, steps=100, method=method)
        train(net, optimizer, range(steps_done))
        report = optimizer.finalize()
        assert report.steps == steps_done
        assert report.zeros == zeros_asked(fraction, total)


@pytest.mark.parametrize("method", [m for m in mm.METHODS if not mm.METHODS[m].sparsities])
def test_weights_that_never_moved_from_zero_are_not_counted_twice(method: str) -> None:
    net = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 20))
    nn.init.zeros_(net[0].weight)
    base = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    optimizer = mm.sparsify(base, net, sparsity=0.5, steps=8, method=method, seed=0)
    inputs = torch.randn(16, 20, generator=torch.Generator().manual_seed(0))
    inputs[:, :15] = 0.0  # dead: their weights have no gradient
    for _ in range(8):
        optimizer.zero_grad()
        (net(inputs) - inputs).square().mean().backward()
        optimizer.step()
    assert optimizer.finalize().zeros == 200


def test_tied_weights_count_once(train) -> None:
    net = nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), one())
    net[2].weight = net[0].weight
    base = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    optimizer = mm.sparsify(base, net, sparsity=0.75, steps=4)
    train(net, optimizer, range(4))
    report = optimizer.finalize()
    assert net[2].weight is net[0].weight
    assert report.weights == 144 + 60
    assert report.zeros == 153
    assert report.weights + report.other_weights == sum(p.numel() for p in net.parameters())
