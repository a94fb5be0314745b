"""Static random masks: drawn once, by the seed alone, in the budgets of the layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mirrormask as mm
from mirrormask.masking import StaticRandom, zeros_per_tensor
from mirrormask.methods import METHODS

STEPS = 6


def net(scale: float = 1.0) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 4))
    with torch.no_grad():
        model[0].weight[:10] *= scale
    return model


def wrap(model: nn.Module, masking: StaticRandom, seed: int = 0) -> mm.SparseOptimizer:
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    recipe = mm.Recipe(masking=masking)
    return mm.sparsify(base, model, sparsity=0.8, steps=STEPS, method=recipe, seed=seed)


def test_one_draw_by_the_seed_whatever_the_weights() -> None:
    masks = [wrap(net(s), StaticRandom(), n).masks() for s, n in ((1, 0), (1e3, 0), (1, 1))]
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])
    assert any(not torch.equal(masks[0][name], masks[2][name]) for name in masks[0])


@pytest.mark.parametrize("scope", ["erk", "uniform"])
def test_layers_have_their_budgets(scope: str) -> None:
    zeros = [int((~mask).sum()) for mask in wrap(net(), StaticRandom(scope=scope)).masks().values()]
    assert zeros == zeros_per_tensor([(20, 30), (4, 20)], 0.8, scope)


def test_any_weight_may_be_drawn() -> None:
    kept = sum(wrap(net(), StaticRandom(), seed).masks()["0.weight"].long() for seed in range(60))
    part = 1 - zeros_per_tensor([(20, 30), (4, 20)], 0.8, "erk")[0] / 600
    assert kept.double().mean() == pytest.approx(60 * part)
    # Binomial, 600 times: within five standard deviations of the mean.
    assert (kept - 60 * part).abs().max() < 5 * (60 * part * (1 - part)) ** 0.5


def test_the_mask_is_in_force_from_the_first_forward_pass_and_stays() -> None:
    model = net()
    optimizer = wrap(model, StaticRandom())
    first = optimizer.masks()
    for step in range(STEPS):
        assert torch.equal(model[0].weight != 0, first["0.weight"])
        optimizer.zero_grad()
        batch = torch.randn(8, 30, generator=torch.Generator().manual_seed(step))
        model(batch).square().mean().backward()
        optimizer.step()
    assert all(torch.equal(mask, first[name]) for name, mask in optimizer.masks().items())
    assert optimizer.finalize().zeros == 544


@pytest.mark.parametrize("method", ["random", "sign-in"])
def test_kept_weights_that_start_at_zero_and_never_move_do_not_count_as_cut(method: str) -> None:
    model = nn.Linear(40, 10)
    nn.init.zeros_(model.weight)
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    recipe = METHODS[method].recipe
    optimizer = mm.sparsify(base, model, sparsity=0.5, steps=STEPS, method=recipe, seed=0)
    batch = torch.randn(32, 40)
    batch[:, 10:] = 0  # as the border of an image
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch), torch.arange(32) % 10).backward()
        optimizer.step()
    assert optimizer.finalize().zeros == 200
