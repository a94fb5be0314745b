"""Whole networks, in parts and with threads, against torch."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

from mirrormask.study.models import build

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
NETS = {
    "mlp": (1, 28),
    "cnn": (1, 28),
    "cnn-small": (1, 28),
    "resnet20": (3, 32),
    "resnet50": (3, 32),
}


@pytest.mark.parametrize("name", NETS)
def test_networks_of_the_study(agree, thin, name):
    channels, size = NETS[name]
    net = build(name, in_channels=channels, image_size=size, num_classes=10)
    net = thin(net, 0.9)
    x = torch.randn(4, channels, size, size)
    for part, threads in ((1, 2), (4, 1)):
        agree(net, x, part=part, threads=threads)


def test_signals(agree, thin):
    net = thin(build("cnn1d", in_channels=1, image_size=40, num_classes=10), 0.5)
    agree(net, torch.randn(3, 1, 40))


@pytest.mark.parametrize(("batch", "tokens"), [(1, 16), (3, 5), (4, 16)])
def test_a_transformer_block(agree, thin, batch, tokens, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    block = import_module("networks").Block(48, 4)
    description = agree(thin(block), torch.randn(batch, tokens, 48), tolerance=5e-5)
    # Two copies, two norms, six products with both sums inside, attention, GELU: nothing else.
    assert len(description.steps) == 12


@pytest.mark.parametrize("batch", [1, 3])
def test_blocks_with_gates(agree, thin, batch, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    gated = import_module("networks").Gated
    net = nn.Sequential(gated(8, 8, 1), gated(8, 16, 2), gated(16, 16, 1))
    description = agree(thin(net, 0.5), torch.randn(batch, 8, 12, 12), tolerance=5e-5)
    # Every block: five products with norms and ReLU inside, two hardswish, a mean, a hardsigmoid, a
    # gate; the second one splits its image first.
    split = description.labels.count("split by strides")
    assert len(description.steps) == 3 * 10 + 2 + split


class Residual(nn.Module):
    """Strided blocks whose shortcut shares its split input with the main path."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.two = nn.Conv2d(8, 8, 3, padding=1)
        self.short = nn.Conv2d(4, 8, 1, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(x)
        return torch.relu(self.short(x) + self.two(torch.relu(self.one(x)))).mean((2, 3))


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1)])
def test_shortcuts_share_their_split_input(agree, thin, size):
    description = agree(thin(Residual()), torch.randn(2, 4, *size))
    # One split of the input, in up to four phases, serves both convolutions.
    assert 1 <= description.labels.count("split by strides") <= 4


def test_two_inputs_and_two_outputs(agree, thin):
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 5), nn.Linear(7, 5)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            left = self.a(x)
            return left, torch.relu(left + self.b(y))

    agree(thin(Two()), torch.randn(4, 6), torch.randn(4, 7), part=2)
