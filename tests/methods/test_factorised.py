"""Deep factors and powers as methods: knobs, and what their papers promise, on small images."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import mirrormask as mm

STEPS = 700


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    bunch = load_digits()
    images = torch.from_numpy(bunch.data).float()
    return (images - images.mean()) / images.std(), torch.from_numpy(bunch.target)


def accuracy(method: str, sparsity: float, digits: tuple[Tensor, Tensor]) -> float:
    """Train on 1,400 digits by SGD with the method's default knobs; return the test accuracy."""
    images, labels = digits
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 200), nn.ReLU(), nn.Linear(200, 10))
    base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    optimizer = mm.sparsify(base, model, sparsity=sparsity, steps=STEPS, method=method, seed=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(base, STEPS)
    for step in range(STEPS):
        chosen = torch.randint(0, 1400, (64,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()
        schedule.step()
    report = optimizer.finalize()
    assert report.zeros == report.asked_zeros
    return (model(images[1400:]).argmax(1) == labels[1400:]).float().mean().item()


@pytest.fixture(scope="module")
def plain(digits: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Accuracy without pressure: dense, and cut at the end."""
    return accuracy("magnitude", 0.0, digits), accuracy("magnitude", 0.95, digits)


@pytest.mark.parametrize("factors", [2, 3, 4])
def test_pressed_deep_factors_lose_nothing_by_the_cut_and_plain_weights_do(
    factors: int, digits: tuple[Tensor, Tensor], plain: tuple[float, float]
) -> None:
    dense, cut = (accuracy(f"dwf-{factors}", sparsity, digits) for sparsity in (0.0, 0.95))
    assert cut > dense - 0.01
    assert cut > plain[1] + 0.03
    assert plain[1] < plain[0] - 0.1


@pytest.mark.parametrize("method", ["dwf-4-gradual", "powerprop"])
def test_a_gradual_cut_loses_little(
    method: str, digits: tuple[Tensor, Tensor], plain: tuple[float, float]
) -> None:
    assert accuracy(method, 0.95, digits) > plain[0] - 0.05


def test_knobs_reach_their_parts() -> None:
    recipe = mm.METHODS["dwf-3"].with_knobs({"strength": 0.5})
    assert (recipe.geometry.factors, recipe.pressure.strength) == (3, 0.5)
    assert mm.METHODS["powerprop"].with_knobs({"p": 3.0}).geometry.p == 3.0
