"""A small net, its batches and one plain training loop, shared by the tests of the core."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mirrormask as mm
from mirrormask.geometry import Euclidean, Factors, Mirror, ScaledMirror
from mirrormask.masking import GradualCubic, ProjectAndFreeze
from mirrormask.pressure import Constant

Train = Callable[[nn.Module, torch.optim.Optimizer, Iterable[int]], None]


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(16, 12, generator=generator)
    return inputs, inputs.roll(1, 1)[:, :5].abs()


def loss_of(net: nn.Module, step: int) -> Tensor:
    inputs, wanted = batch(step)
    return F.mse_loss(net(inputs), wanted)


@pytest.fixture
def loss() -> Callable[[nn.Module, int], Tensor]:
    """Loss of a net on the batch of a step."""
    return loss_of


@pytest.fixture
def make_net() -> Callable[[], nn.Sequential]:
    """The same net in every call: 12-20-5, 340 targeted weights."""

    def build() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 5))

    return build


@pytest.fixture
def train() -> Train:
    """The plain loop over steps; each step number is a batch."""

    def loop(net: nn.Module, optimizer: torch.optim.Optimizer, steps: Iterable[int]) -> None:
        for step in steps:
            optimizer.zero_grad()
            loss_of(net, step).backward()
            optimizer.step()

    return loop


def recipes() -> dict[str, mm.Recipe]:
    """Recipes by name: each geometry and policy, none that another file may retune."""
    strong = Constant(strength=2e-3)
    freeze = ProjectAndFreeze(at=0.5)
    return {
        "factors-end": mm.Recipe(geometry=Factors(), pressure=strong),
        "factors-freeze": mm.Recipe(
            geometry=Factors(), pressure=strong, masking=freeze, rebalance=(0.3, 0.5)
        ),
        "factors-gradual": mm.Recipe(
            geometry=Factors(), pressure=strong, masking=GradualCubic(begin=0.1, end=0.7, cuts=5)
        ),
        "spred": mm.Recipe(geometry=Factors(beta=0.0), pressure=strong),
        "mirror-freeze": mm.Recipe(
            geometry=Mirror(), pressure=strong, masking=freeze, rebalance=(0.3, 0.5)
        ),
        "scaled-saliency": mm.Recipe(
            geometry=ScaledMirror(),
            pressure=strong,
            masking=GradualCubic(begin=0.1, end=0.7, cuts=5, score="saliency", floor=0.1),
            rebalance=(0.3, 0.9),
        ),
        "mirror-noise": mm.Recipe(geometry=Mirror(noise="second-moment"), pressure=strong),
        "proximal-freeze": mm.Recipe(
            geometry=Euclidean(),
            pressure=Constant(strength=1e-3, application="proximal"),
            masking=freeze,
        ),
        "euclidean-gradual": mm.Recipe(masking=GradualCubic(begin=0.1, end=0.7, cuts=5)),
    }


RECIPES = recipes()


@pytest.fixture(params=RECIPES)
def recipe(request: pytest.FixtureRequest) -> mm.Recipe:
    """Each recipe in turn."""
    return RECIPES[request.param]
