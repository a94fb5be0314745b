"""A run over small images, to see what methods promise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import mirrormask as mm

STEPS, TRAIN = 300, 1400


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run came to: the finished model, and what it was before the last cut."""

    model: nn.Sequential
    accuracy: float
    zeros_before: int
    start: Tensor
    losses: list[float]


@pytest.fixture(scope="session")
def images() -> tuple[Tensor, Tensor]:
    """1,797 digits of 8x8 pixels and their labels."""
    bunch = load_digits()
    pixels = torch.from_numpy(bunch.data).float()
    return (pixels - pixels.mean()) / pixels.std(), torch.from_numpy(bunch.target)


@pytest.fixture(scope="session")
def run(images: tuple[Tensor, Tensor]) -> Callable[..., Run]:
    """Train 64-100-10 by SGD with momentum and a cosine in each phase; test on held-out digits."""
    pixels, labels = images

    def train(
        method: str | mm.Recipe, sparsity: float, *, seed: int = 0, trace: bool = False
    ) -> Run:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
        start = model[0].weight.detach().clone()
        base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        optimizer = mm.sparsify(
            base, model, sparsity=sparsity, steps=STEPS, method=method, seed=seed
        )
        losses = []
        for step in range(STEPS):
            first, length = optimizer.recipe.masking.phase(step, STEPS)
            rate = 0.025 * (1 + math.cos(math.pi * (step - first) / length))
            for group in optimizer.param_groups:
                group["lr"] = rate
            generator = torch.Generator().manual_seed(1000 * seed + step)
            chosen = torch.randint(0, TRAIN, (64,), generator=generator)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(pixels[chosen]), labels[chosen]).backward()
            optimizer.step()
            if trace:
                with torch.no_grad():
                    scores = model(pixels[:TRAIN])
                    losses.append(nn.functional.cross_entropy(scores, labels[:TRAIN]).item())
        zeros = sum(int((model[layer].weight == 0).sum()) for layer in (0, 2))
        report = optimizer.finalize()
        assert report.zeros == report.asked_zeros
        right = model(pixels[TRAIN:]).argmax(1) == labels[TRAIN:]
        return Run(
            model=model,
            accuracy=right.float().mean().item(),
            zeros_before=zeros,
            start=start,
            losses=losses,
        )

    return train
