"""Latents in the optimizer against a parametrised module: equality, not closeness."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mirrormask as mm
from mirrormask.geometry import Factors
from mirrormask.pressure import Clock, Constant, Pressure, PressureState


class Wave(Pressure):
    """A strength that changes in every step."""

    def start(self, l1: float) -> PressureState:
        return {}

    def alpha(self, state: PressureState, clock: Clock) -> float:
        return 1e-3 * (1 + clock.step % 7) / 7


class Parametrised(nn.Module):
    """An independent two-layer net whose weights are products of trained factors."""

    def __init__(self, plain: nn.Sequential) -> None:
        super().__init__()
        for i, layer in ((1, plain[0]), (2, plain[2])):
            x = layer.weight.detach()
            root = torch.hypot(2 * x, torch.ones_like(x))
            m = ((root + 1) / 2).sqrt()
            self.register_parameter(f"m{i}", nn.Parameter(m))
            self.register_parameter(f"w{i}", nn.Parameter(x / m))
            self.register_parameter(f"b{i}", nn.Parameter(layer.bias.detach().clone()))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(F.linear(inputs, self.m1 * self.w1, self.b1))
        return F.linear(hidden, self.m2 * self.w2, self.b2)


BASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "dampening": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.5),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=3e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=0.0),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
}


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(16, 12, generator=generator)
    return inputs, inputs.roll(1, 1)[:, :5].abs()


def plain_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 5))


def oracle_step(
    net: Parametrised, optimizer: torch.optim.Optimizer, kind: str, alpha: float, step: int
) -> None:
    inputs, wanted = batch(step)
    optimizer.zero_grad()
    F.mse_loss(net(inputs), wanted).backward()
    factors = optimizer.param_groups[0]
    if isinstance(optimizer, torch.optim.SGD | torch.optim.AdamW):
        factors["weight_decay"] = 2 * alpha  # coupled in SGD, decoupled in AdamW
    else:
        with torch.no_grad():
            for factor in factors["params"]:
                factor.mul_(1 - 2 * (factors["lr"] * alpha))
    optimizer.step()


@pytest.mark.parametrize("kind", BASES)
def test_equals_parametrised_module_bit_for_bit(kind: str, tmp_path) -> None:
    steps, reload_at = 320, {1, 100, 217}
    net = plain_net()
    oracle = Parametrised(net)
    base = BASES[kind](net.parameters())
    recipe = mm.Recipe(geometry=Factors(beta=1.0), pressure=Wave())
    optimizer = mm.sparsify(base, net, sparsity=0.5, steps=steps, method=recipe)
    torch_optimizer = BASES[kind](
        [
            {"params": [oracle.m1, oracle.w1, oracle.m2, oracle.w2]},
            {"params": [oracle.b1, oracle.b2]},
        ]
    )
    for step in range(steps):
        if step in reload_at:
            torch.save((net.state_dict(), optimizer.state_dict()), tmp_path / "c.pt")
            net = plain_net()
            optimizer = mm.sparsify(
                BASES[kind](net.parameters()), net, sparsity=0.5, steps=steps, method=recipe
            )
            weights, state = torch.load(tmp_path / "c.pt", weights_only=True)
            net.load_state_dict(weights)
            optimizer.load_state_dict(state)
        for group in (*optimizer.param_groups, *torch_optimizer.param_groups):
            group["lr"] *= 0.999
        inputs, wanted = batch(step)
        optimizer.zero_grad()
        F.mse_loss(net(inputs), wanted).backward()
        optimizer.step()
        oracle_step(oracle, torch_optimizer, kind, 1e-3 * (1 + step % 7) / 7, step)
        assert torch.equal(net[0].weight, oracle.m1 * oracle.w1), step
        assert torch.equal(net[2].weight, oracle.m2 * oracle.w2), step
        assert torch.equal(net[0].bias, oracle.b1), step


@pytest.mark.parametrize("kind", BASES)
def test_deepcopy_goes_on_identically(kind: str) -> None:
    net = plain_net()
    recipe = mm.Recipe(geometry=Factors(), pressure=Constant(strength=1e-3))
    optimizer = mm.sparsify(
        BASES[kind](net.parameters()), net, sparsity=0.5, steps=20, method=recipe
    )

    def go(net: nn.Sequential, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            inputs, wanted = batch(step)
            optimizer.zero_grad()
            F.mse_loss(net(inputs), wanted).backward()
            optimizer.step()

    go(net, optimizer, range(10))
    other, other_optimizer = copy.deepcopy((net, optimizer))
    go(net, optimizer, range(10, 20))
    go(other, other_optimizer, range(10, 20))
    optimizer.finalize()
    other_optimizer.finalize()
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
