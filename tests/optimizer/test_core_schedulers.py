"""Learning-rate schedulers, made on the base before or on this optimizer after, do the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import mirrormask as mm
from mirrormask.geometry import Factors
from mirrormask.masking import ProjectAndFreeze
from mirrormask.pressure import Constant

STEPS = 12
RECIPE = mm.Recipe(
    geometry=Factors(), pressure=Constant(strength=2e-3), masking=ProjectAndFreeze(at=0.5)
)


def wrap(net: nn.Module, base: torch.optim.Optimizer, **options: object) -> mm.SparseOptimizer:
    wanted: dict = {"sparsity": 0.8, "steps": STEPS, "method": RECIPE} | options
    return mm.sparsify(base, net, **wanted)


def sgd(net: nn.Module, lr: float = 0.05) -> torch.optim.SGD:
    return torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)


def same(one: nn.Module, two: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]] = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "one-cycle": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.2, total_steps=STEPS + 1),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=STEPS),
    "warm restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=5),
    "sequence": lambda o: lr_scheduler.SequentialLR(
        o,
        [lr_scheduler.LinearLR(o, 0.1, total_iters=4), lr_scheduler.ExponentialLR(o, 0.8)],
        [4],
    ),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, factor=0.5),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_made_before_and_after(make_net, loss, name: str) -> None:
    def run(order: str) -> tuple[nn.Module, list[float], float]:
        net = make_net()
        base = sgd(net)
        if order == "by hand":
            optimizer = wrap(net, base)
            driver = sgd(make_net())  # turns the same scheduler, trains nothing
            scheduler = SCHEDULERS[name](driver)
        elif order == "before":
            scheduler = SCHEDULERS[name](base)
            optimizer = wrap(net, base)
        else:
            optimizer = wrap(net, base)
            scheduler = SCHEDULERS[name](optimizer)
        rates = []
        for step in range(STEPS):
            if order == "by hand":
                for key in ("lr", "momentum"):
                    base.param_groups[0][key] = driver.param_groups[0][key]
                driver.step()
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.zero_grad()
            loss(net, step).backward()
            optimizer.step()
            if name == "plateau":
                scheduler.step(1.0)
            else:
                scheduler.step()
        optimizer.finalize()
        return net, rates, optimizer.budget

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=r".*lr_scheduler.step\(\)")
        warnings.filterwarnings("ignore", message=r"The epoch parameter")
        before, after, by_hand = run("before"), run("after"), run("by hand")
    assert len(set(after[1])) > 3
    assert before[1:] == after[1:] == by_hand[1:]
    assert same(before[0], after[0])
    assert same(before[0], by_hand[0])
