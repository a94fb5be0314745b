"""The base optimizer on latents, against factors written out by hand; decay and its budget."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mirrormask as mm
from mirrormask.errors import MirrormaskWarning
from mirrormask.geometry import Factors, Mirror
from mirrormask.optimizer.base_step import BaseStep
from mirrormask.pressure import Constant

ALPHA = 4e-3


class ByHand(nn.Module):
    """The net of the fixtures with its two weights as products of parameters."""

    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.m, self.w, self.b = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        for layer in (net[0], net[2]):
            x = layer.weight.detach()
            m = ((torch.hypot(2 * x, torch.ones_like(x)) + 1) / 2).sqrt()
            self.m.append(m)
            self.w.append(x / m)
            self.b.append(layer.bias.detach().clone())

    def weight(self, index: int) -> Tensor:
        return self.m[index] * self.w[index]

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = F.relu(F.linear(inputs, self.weight(0), self.b[0]))
        return F.linear(hidden, self.weight(1), self.b[1])


SGD, ADAM, ADAMW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW

# Options of the first layer's group, of the second's, and of the biases'; the decay of the
# biases is the user's and stays.
CASES: dict[str, tuple[Callable, dict, dict, dict]] = {
    "three rates": (SGD, {"lr": 0.1, "momentum": 0.9}, {"lr": 0.01}, {"lr": 0.05}),
    "two momenta": (SGD, {"lr": 0.1, "momentum": 0.9}, {"lr": 0.1, "momentum": 0.5}, {"lr": 0.1}),
    "nesterov": (
        SGD,
        {"lr": 0.05, "momentum": 0.9, "nesterov": True},
        {"lr": 0.05},
        {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
    "dampening": (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}, {"lr": 0.1}, {"lr": 0.1}),
    "maximize": (
        SGD,
        {"lr": 1e-3, "momentum": 0.9, "maximize": True},
        {"lr": 1e-3, "maximize": True},
        {"lr": 1e-3, "maximize": True},
    ),
    "foreach": (
        SGD,
        {"lr": 0.1, "momentum": 0.9, "foreach": True},
        {"lr": 0.1, "foreach": True},
        {"lr": 0.1, "foreach": True, "weight_decay": 0.1},
    ),
    "adam": (ADAM, {"lr": 3e-3}, {"lr": 1e-3, "betas": (0.8, 0.9)}, {"lr": 3e-3, "amsgrad": True}),
    "adam foreach": (ADAM, {"lr": 3e-3, "foreach": True}, {"lr": 1e-3}, {"lr": 3e-3}),
    "adam fused": (ADAM, {"lr": 3e-3, "fused": True}, {"lr": 1e-3}, {"lr": 3e-3}),
    "adamw": (
        ADAMW,
        {"lr": 3e-3, "weight_decay": 0.0},
        {"lr": 1e-3, "weight_decay": 0.0},
        {"lr": 3e-3, "weight_decay": 0.1},
    ),
    "adam decoupled": (
        ADAM,
        {"lr": 3e-3, "decoupled_weight_decay": True},
        {"lr": 1e-3, "decoupled_weight_decay": True},
        {"lr": 3e-3, "decoupled_weight_decay": True, "weight_decay": 0.1},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_factors_by_hand_with_groups_of_their_own(make_net, case: str) -> None:
    build, first, second, biases = CASES[case]
    net = make_net()
    hand = ByHand(net)
    layers = [net[0], net[2]]
    base = build(
        [
            {"params": [net[0].weight], **first},
            {"params": [net[2].weight], **second},
            {"params": [net[0].bias, net[2].bias], **biases},
        ]
    )
    recipe = mm.Recipe(geometry=Factors(), pressure=Constant(strength=ALPHA))
    optimizer = mm.sparsify(base, net, sparsity=0.5, steps=40, method=recipe)
    reference = build(
        [
            {"params": [hand.m[0], hand.w[0]], **first},
            {"params": [hand.m[1], hand.w[1]], **second},
            {"params": list(hand.b), **biases},
        ]
    )
    beside = case.startswith("adam") and case not in ("adamw", "adam decoupled")
    if not beside:
        for group in reference.param_groups[:2]:
            group["weight_decay"] = 2 * ALPHA
    for step in range(40):
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn(16, 12, generator=generator)
        for model, its in ((net, optimizer), (hand, reference)):
            its.zero_grad()
            F.mse_loss(model(inputs), inputs[:, :5].abs()).backward()
            if beside and its is reference:
                with torch.no_grad():
                    for group in reference.param_groups[:2]:
                        for factor in group["params"]:
                            factor.mul_(1 - 2 * (group["lr"] * ALPHA))
            its.step()
        for index, layer in enumerate(layers):
            assert torch.equal(layer.weight, hand.weight(index)), (step, index)
            assert torch.equal(layer.bias, hand.b[index]), (step, index)


def test_the_callers_weight_decay_acts_on_the_rest_alone(make_net, train) -> None:
    def run(weight_decay: float) -> nn.Sequential:
        net = make_net()
        base = torch.optim.SGD(net.parameters(), lr=0.05, weight_decay=weight_decay)
        if weight_decay:
            with pytest.warns(MirrormaskWarning, match=r"weight_decay=0.3 is switched off"):
                optimizer = mm.sparsify(base, net, sparsity=0.0, steps=1, method="pilot-paper")
        else:
            optimizer = mm.sparsify(base, net, sparsity=0.0, steps=1, method="pilot-paper")
        train(net, optimizer, [0])
        assert all(group["weight_decay"] == weight_decay for group in base.param_groups)
        return net

    decayed, plain = run(0.3), run(0.0)
    assert torch.equal(decayed[0].weight, plain[0].weight)
    start = make_net()[0].bias
    torch.testing.assert_close(decayed[0].bias, plain[0].bias - 0.05 * 0.3 * start)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(
    "build",
    [
        lambda p, wd: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=wd),
        lambda p, wd: torch.optim.Adam(p, lr=1e-2, weight_decay=wd),
        lambda p, wd: torch.optim.AdamW(p, lr=1e-2, weight_decay=wd),
        lambda p, wd: torch.optim.RMSprop(p, lr=1e-2, weight_decay=wd),
        lambda p, wd: torch.optim.Adagrad(p, lr=1e-2, weight_decay=wd),
    ],
    ids=["sgd", "adam", "adamw", "rmsprop", "adagrad"],
)
def test_dense_training_is_the_base_bit_for_bit(
    make_net, train, build: Callable, weight_decay: float
) -> None:
    net, plain = make_net(), make_net()
    base, reference = (build(n.parameters(), weight_decay) for n in (net, plain))
    optimizer = mm.sparsify(base, net, sparsity=0.5, steps=20, method="magnitude")
    train(net, optimizer, range(20))
    train(plain, reference, range(20))
    for one, two in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("mu", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("geometry", [Factors(beta=1.0), Mirror(a=0.5)], ids=["factors", "mirror"])
def test_momentum_multiplies_the_budget(mu: float, geometry: Factors | Mirror) -> None:
    # Claim 22 on a real regression, in float64: the balance m² - w², or a, tells the budget spent.
    torch.manual_seed(0)
    layer = nn.Linear(12, 3, bias=False).double()
    inputs = torch.randn(64, 12, dtype=torch.float64)
    wanted = inputs @ torch.randn(12, 3, dtype=torch.float64)
    lr, alpha, steps = 1e-3 * (1 - mu), 0.02, 3000
    base = torch.optim.SGD(layer.parameters(), lr=lr, momentum=mu)
    recipe = mm.Recipe(geometry=geometry, pressure=Constant(strength=alpha))
    optimizer = mm.sparsify(base, layer, sparsity=0.5, steps=steps, method=recipe)
    start = layer.weight.detach().clone()
    for _ in range(steps):
        optimizer.zero_grad()
        F.mse_loss(layer(inputs), wanted).backward()
        optimizer.step()
    budget = steps * lr * alpha / (1 - mu)
    assert (layer.weight - start).abs().max() > 0.2
    assert optimizer.budget == pytest.approx(budget, rel=1e-9)
    spent = -torch.tensor(optimizer.scales()["weight"] / 0.5).log().item() / 4
    assert spent == pytest.approx(budget, rel=0.02)


def test_gain_follows_a_schedule_of_the_momentum(make_net) -> None:
    net = make_net()
    base = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    step = BaseStep(base, {}, Factors())
    group = base.param_groups[0]
    assert step.budget(group, 2.0) == pytest.approx(2.0)
    group["momentum"], group["dampening"] = 0.5, 0.5
    assert step.budget(group, 2.0) == pytest.approx(0.2)
    adam = torch.optim.Adam(net.parameters(), lr=0.1)
    assert BaseStep(adam, {}, Factors()).budget(adam.param_groups[0], 2.0) == pytest.approx(0.2)


def test_the_callers_groups_are_back_after_a_failing_step(make_net, train) -> None:
    class Fragile(torch.optim.SGD):
        def step(self, closure: Callable | None = None) -> None:
            raise RuntimeError("out of memory")

    net = make_net()
    base = Fragile(net.parameters(), lr=0.1)
    optimizer = mm.sparsify(base, net, sparsity=0.5, steps=5)
    before = [p.detach().clone() for p in net.parameters()]
    groups = base.param_groups
    with pytest.raises(RuntimeError, match="out of memory"):
        train(net, optimizer, [0])
    assert base.param_groups is groups is optimizer.param_groups
    assert all(torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))
    assert optimizer.steps_done == 0


def test_options_that_an_optimizer_writes_while_stepping_are_kept(make_net, train) -> None:
    class Counting(torch.optim.SGD):
        def step(self, closure: Callable | None = None) -> None:
            super().step()
            for group in self.param_groups:
                group["k"] = group.get("k", 0) + 1

    net = make_net()
    optimizer = mm.sparsify(Counting(net.parameters(), lr=0.1), net, sparsity=0.5, steps=5)
    train(net, optimizer, range(3))
    assert optimizer.param_groups[0]["k"] == 3
