"""Claims 20-22 and 24: what the optimizer that trains networks keeps of the theory."""

from __future__ import annotations

import functools
import itertools
import math

import torch
from torch import Tensor, nn

from mirrormask.geometry import Factors
from mirrormask.lab.discrete import balance_of
from mirrormask.optimizer import Recipe, SparseOptimizer
from mirrormask.pressure import Algorithm1, Clock, Constant, TrainingSignal
from mirrormask.sparsifying import sparsify


def _model() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 4))


def _wrapped(
    model: nn.Module, *, alpha: float, steps: int, lr: float = 0.05, momentum: float = 0.9
) -> SparseOptimizer:
    base = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    recipe = Recipe(geometry=Factors(beta=1.0), pressure=Constant(strength=alpha))
    return sparsify(base, model, sparsity=0.5, steps=steps, method=recipe)


def _train(model: nn.Module, optimizer: SparseOptimizer, steps: int) -> None:
    rng = torch.Generator().manual_seed(6)
    for _ in range(steps):
        loss = (model(torch.randn(16, 12, generator=rng)) - 0.5).square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()


def rebalance_error(*, share: float = 1.0) -> float:
    """Return the relative change of the outputs when all weights are split anew."""
    model = _model()
    optimizer = _wrapped(model, alpha=0.01, steps=60)
    _train(model, optimizer, 60)
    inputs = torch.randn(50, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = model(inputs)
        for weight in optimizer.weights.values():
            weight.parameter.mul_(share)
            weight.adopt_edits()
            weight.rebalance()
        change: Tensor = (model(inputs) - before).abs().max() / before.abs().max()
    return change.item()


def rebalanced_balance_error(*, rebalances: int = 1) -> float:
    """Return how far the balance is from beta after a rebalance, in float32."""
    model = _model()
    optimizer = _wrapped(model, alpha=0.01, steps=60)
    _train(model, optimizer, 60)
    for weight in list(optimizer.weights.values()) * rebalances:
        weight.rebalance()
    return max((balance_of(w.latents) - 1.0).abs().max().item() for w in optimizer.weights.values())


def product_mismatches(*, drift: float = 0.0) -> float:
    """Return how many weights of the model ever differ from m * w over a run and its cut."""
    model = _model()
    optimizer = _wrapped(model, alpha=0.02, steps=40)
    wrong = 0
    for _ in range(40):
        _train(model, optimizer, 1)
        for weight in optimizer.weights.values():
            weight.latents["m"].mul_(1.0 + drift)
            product = weight.latents["m"] * weight.latents["w"]
            wrong += int((product != weight.parameter).sum())
    return float(wrong)


LR, ALPHA, STEPS = 0.01, 0.001, 2000
"""Small enough that lr * alpha stays far below (1 - momentum)², where the gain is first-order."""


@functools.cache
def _spent(momentum: float) -> tuple[float, ...]:
    """Return the budget of each tensor, measured from how far its balance fell, no gradient."""
    model = _model()
    optimizer = _wrapped(model, alpha=ALPHA, steps=STEPS, lr=LR, momentum=momentum)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for _ in range(STEPS):
        optimizer.step()
    return tuple(-0.25 * math.log(2.0 * scale) for scale in optimizer.scales().values())


def momentum_budget_error(*, gain: float = 1.0) -> float:
    """Return the relative error of ``lr * alpha * steps / (1 - mu)`` as the budget spent."""
    return max(
        abs(spent * (1.0 - gain * momentum) / (STEPS * LR * ALPHA) - 1.0)
        for momentum in (0.0, 0.5, 0.9, 0.95)
        for spent in _spent(momentum)
    )


def algorithm1_excess(*, rising_part: float = 0.5) -> float:
    """Return the largest of peak over its bound and last alpha over alpha_init.

    Every sequence of rising and falling accuracies over runs of up to 12 epochs.
    """
    worst = 0.0
    for epochs in range(1, 13):
        for moves in itertools.product((1.0, -1.0), repeat=epochs):
            rule = Algorithm1(alpha_init=0.25, delta=2.0)
            state, accuracy, peak = rule.start(l1=1.0), 0.0, 0.0
            for epoch, move in enumerate(moves, start=1):
                accuracy += move
                signal = TrainingSignal(accuracy=accuracy, l1=1.0, step=epoch)
                state = rule.observe(state, signal, steps=round(2 * rising_part * epochs))
                last = rule.alpha(state, Clock(step=epoch, steps=epochs, rate=0.1))
                peak = max(peak, last)
            bound = rule.alpha_init * rule.delta ** (epochs / 2)
            worst = max(worst, peak / bound, last / rule.alpha_init)
    return worst
