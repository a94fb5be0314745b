"""Squared gradients that an optimizer senses for saliency: the mean, its life, its resumption."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional as F

import mirrormask as mm
from mirrormask.masking import GradualCubic
from mirrormask.masking.score import FORGETTING

RECIPE = mm.Recipe(masking=GradualCubic(begin=0.2, end=0.6, cuts=4, score="saliency", floor=0.1))


def problem() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))
    inputs = torch.randn(64, 12)
    return model, inputs, inputs[:, :3].argmax(1)


def wrap(model: nn.Module, steps: int = 20) -> mm.SparseOptimizer:
    base = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    return mm.sparsify(base, model, sparsity=0.8, steps=steps, method=RECIPE)


def advance(model, optimizer, inputs, labels, steps) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()


def test_the_mean_is_that_of_all_dense_gradients_so_far() -> None:
    model, inputs, labels = problem()
    optimizer = wrap(model)
    expected = torch.zeros(16, 12)
    for _ in range(10):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        gradient = model[0].weight.grad.clone()  # also where the weight is cut
        expected = FORGETTING * expected + (1 - FORGETTING) * gradient.square()
        optimizer.step()
    sensed = optimizer.weights[model[0].weight].squares
    torch.testing.assert_close(sensed, expected)


def test_nothing_is_kept_once_the_last_cut_is_made() -> None:
    model, inputs, labels = problem()
    optimizer = wrap(model)
    advance(model, optimizer, inputs, labels, 11)
    assert optimizer.weights[model[0].weight].squares is not None
    advance(model, optimizer, inputs, labels, 1)
    assert all(weight.squares is None for weight in optimizer.weights.values())
    assert not any("squares" in entry for entry in optimizer.state_dict()["state"].values())


def test_the_first_cut_is_by_saliency() -> None:
    model, inputs, labels = problem()
    twin = copy.deepcopy(model)
    optimizer = wrap(model, steps=10)
    advance(model, optimizer, inputs, labels, 2)
    sensed = [weight.squares.clone() for weight in optimizer.weights.values()]
    advance(model, optimizer, inputs, labels, 1)
    target = RECIPE.masking.cut_after(3, 10, 0.8)
    assert target is not None
    # The weights and gradients of the third step, found by a run of the plain optimizer.
    plain = torch.optim.SGD(twin.parameters(), lr=0.2, momentum=0.9)
    for _ in range(3):
        plain.zero_grad()
        F.cross_entropy(twin(inputs), labels).backward()
        plain.step()
    layers = [twin[0].weight, twin[2].weight]
    worth = [
        layer.detach().abs() * (FORGETTING * s + (1 - FORGETTING) * layer.grad.square()).sqrt()
        for layer, s in zip(layers, sensed, strict=True)
    ]
    flat = torch.cat([score.flatten() for score in worth])
    cut = torch.zeros_like(flat, dtype=torch.bool)
    cut[flat.argsort()[: round(target * flat.numel())]] = True
    kept = torch.cat([mask.flatten() for mask in optimizer.masks().values()])
    assert torch.equal(kept, ~cut)


def test_a_resumed_run_cuts_the_same() -> None:
    model, inputs, labels = problem()
    optimizer = wrap(model)
    advance(model, optimizer, inputs, labels, 7)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    advance(model, optimizer, inputs, labels, 13)
    other, _, _ = problem()
    other.load_state_dict(saved[0])
    resumed = wrap(other)
    resumed.load_state_dict(saved[1])
    advance(other, resumed, inputs, labels, 13)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )
