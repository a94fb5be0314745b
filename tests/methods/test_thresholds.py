"""Learned thresholds and gates as methods: knobs, and what their papers show, on small images."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import mirrormask as mm

STEPS = 300


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    bunch = load_digits()
    images = torch.from_numpy(bunch.data).float()
    return (images - images.mean()) / images.std(), torch.from_numpy(bunch.target)


def thresholds_and_zeros(
    strength: float, digits: tuple[Tensor, Tensor]
) -> tuple[list[list[float]], float]:
    """Train by STR; return the thresholds of all layers every 100 steps, and the zeros."""
    images, labels = digits
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 10))
    base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    recipe = mm.METHODS["str"].with_knobs({"strength": strength})
    optimizer = mm.sparsify(base, model, sparsity=0.9, steps=STEPS, method=recipe)
    seen = []
    for step in range(STEPS):
        if step % 100 == 0:
            seen.append([torch.sigmoid(w.latents["s"]).item() for w in optimizer.weights.values()])
        chosen = torch.randint(0, 1400, (64,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    zeros = torch.cat([(w == 0).flatten() for w in optimizer.weights]).float().mean().item()
    report = optimizer.finalize()
    assert report.zeros == report.asked_zeros
    return seen, zeros


def test_thresholds_rise_and_differ_by_layer_and_decay_makes_zeros(
    digits: tuple[Tensor, Tensor],
) -> None:
    (weak, few), (strong, many) = (thresholds_and_zeros(s, digits) for s in (3e-3, 2e-2))
    for first, second, third in zip(*strong, strict=True):
        assert first < second < third
    assert strong[0][0] == strong[0][1]
    assert abs(strong[2][0] - strong[2][1]) > 0.1 * strong[2][0]
    assert all(s > w for s, w in zip(strong[2], weak[2], strict=True))
    assert many > few + 0.2


def test_knobs_reach_their_parts() -> None:
    assert mm.METHODS["str"].with_knobs({"strength": 0.5}).pressure.strength == 0.5
    recipe = mm.METHODS["cs"].with_knobs({"strength": 0.5, "initial": -0.2})
    assert (recipe.pressure.strength, recipe.geometry.initial) == (0.5, -0.2)
