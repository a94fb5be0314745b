"""Cycles in the core: what goes back, what is forgotten, what starts again, and resuming."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import mirrormask as mm
from mirrormask.geometry import Euclidean, Factors, Geometry
from mirrormask.masking import Cycles, keep_at
from mirrormask.pressure import Algorithm1, Constant, SeekTarget

STEPS = 24  # with two cuts, phases of 8
TARGET = 0.75


def net() -> nn.Sequential:
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Linear(8, 12), nn.BatchNorm1d(12, momentum=0.3), nn.Tanh(), nn.Linear(12, 4)
    )


def backward(model: nn.Module, number: int) -> None:
    batch = torch.randn(16, 8, generator=torch.Generator().manual_seed(number))
    model.zero_grad()
    (model(batch) - batch[:, :4]).square().mean().backward()


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def wrap(model: nn.Module, recipe: mm.Recipe, base: Callable = sgd) -> mm.SparseOptimizer:
    return mm.sparsify(base(model), model, sparsity=TARGET, steps=STEPS, method=recipe, seed=0)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for number in steps:
        backward(model, number)
        optimizer.step()


def by_hand(rewind: str, stored_after: int) -> tuple[nn.Module, list[dict[str, Tensor]]]:
    """Train, cut, copy back, fresh momentum; return the model and its states after each step."""
    model = net()
    weights = {"0.weight": model[0].weight, "3.weight": model[3].weight}
    masks = {name: torch.ones_like(p, dtype=torch.bool) for name, p in weights.items()}
    states = []
    for number in range(STEPS):
        if number % 8 == 0:
            optimizer = sgd(model)
        if number == stored_after:
            early = copy.deepcopy(model.state_dict())
        backward(model, number)
        for name, p in weights.items():
            p.grad.mul_(masks[name])
        optimizer.step()
        if number in (7, 15):
            sparsity = 1 - (1 - TARGET) ** (0.5 if number == 7 else 1.0)
            kept = keep_at([p.detach().abs() for p in weights.values()], sparsity, "global")
            masks = dict(zip(weights, kept, strict=True))
            if rewind == "weights":
                model.load_state_dict(early)
            with torch.no_grad():
                for name, p in weights.items():
                    p.mul_(masks[name])
        states.append(copy.deepcopy(model.state_dict()))
    return model, states


@pytest.mark.parametrize(("store", "stored_after"), [(0.0, 0), (0.4, 3)])
@pytest.mark.parametrize("rewind", ["rate", "weights"])
def test_it_is_a_loop_of_training_cutting_and_copying(
    rewind: str, store: float, stored_after: int
) -> None:
    wanted, states = by_hand(rewind, stored_after)
    model = net()
    masking = Cycles(cycles=2, rewind=rewind, store=store)
    optimizer = wrap(model, mm.Recipe(masking=masking))
    for number, state in enumerate(states):
        train(model, optimizer, range(number, number + 1))
        for name, tensor in model.state_dict().items():  # buffers of BatchNorm and biases too
            torch.testing.assert_close(tensor, state[name], rtol=1e-5, atol=1e-7, msg=name)
    report = optimizer.finalize()
    assert report.zeros == report.asked_zeros == 108
    for one, two in zip(model.parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("geometry", [Euclidean(), Factors()], ids=["euclidean", "factors"])
def test_weights_go_back_to_the_bit_and_the_cut_ones_are_zero(geometry: Geometry) -> None:
    model = net()
    masking = Cycles(cycles=2, rewind="weights", store=0.5)
    optimizer = wrap(model, mm.Recipe(geometry=geometry, masking=masking))
    train(model, optimizer, range(4))
    early = copy.deepcopy(model.state_dict())
    train(model, optimizer, range(4, 8))
    masks = optimizer.masks()
    assert sum(int((~mask).sum()) for mask in masks.values()) == 72
    for name, tensor in model.state_dict().items():
        back = early[name] * masks[name] if name in masks else early[name]
        assert torch.equal(tensor, back), name
    assert not any(optimizer.base.state.values())
    assert int(model[1].num_batches_tracked) == 4


def test_rates_alone_keep_the_weights_and_forget_the_momentum() -> None:
    model = net()
    optimizer = wrap(model, mm.Recipe(masking=Cycles(cycles=2)))
    train(model, optimizer, range(7))
    assert all("momentum_buffer" in state for state in optimizer.base.state.values())
    bias = model[0].bias.detach().clone()
    backward(model, 7)
    momentum = optimizer.base.state[model[0].bias]["momentum_buffer"]
    wanted = bias - 0.1 * (0.9 * momentum + model[0].bias.grad)
    optimizer.step()
    torch.testing.assert_close(model[0].bias.detach(), wanted)
    assert not any(optimizer.base.state.values())
    assert not optimizer.stored


@pytest.mark.parametrize("rewind", ["rate", "weights"])
def test_pilot_in_cycles_balances_its_factors_where_one_begins(rewind: str) -> None:
    model = net()
    geometry = Factors(beta=1.0)
    recipe = mm.Recipe(
        geometry=geometry,
        pressure=Constant(strength=2e-2),
        masking=Cycles(cycles=2, rewind=rewind, store=0.5),
        rebalance=(1.0,),
    )
    optimizer = wrap(model, recipe)
    for begin in (8, 16):
        train(model, optimizer, range(begin - 8, begin - 1))
        before = optimizer.weights[model[0].weight].latents
        fresh = geometry.split(model[0].weight.detach())
        apart = max(float((before[name] - fresh[name]).abs().max()) for name in fresh)
        assert apart > 1e-3  # decay has moved them away from their start
        train(model, optimizer, range(begin - 1, begin))
        weight, mask = optimizer.weights[model[0].weight], optimizer.masks()["0.weight"]
        for name, latent in geometry.split(model[0].weight.detach()).items():
            torch.testing.assert_close(weight.latents[name], latent * mask, rtol=1e-6, atol=1e-6)
    train(model, optimizer, range(16, STEPS))
    assert optimizer.finalize().zeros == 108


@pytest.mark.parametrize("rewind", ["rate", "weights"])
def test_the_clock_of_the_pressure_starts_again_in_each_phase(rewind: str) -> None:
    model = net()
    pressure = Constant(strength=0.01, until=0.5)
    recipe = mm.Recipe(pressure=pressure, masking=Cycles(cycles=2, rewind=rewind))
    optimizer = wrap(model, recipe)
    strengths = []
    for number in range(STEPS):
        strengths.append(optimizer.alpha)
        train(model, optimizer, range(number, number + 1))
    assert strengths == ([0.01] * 4 + [0.0] * 4) * 3


def test_algorithm_1_starts_again_in_each_phase() -> None:
    model = net()
    rule = Algorithm1(alpha_init=1e-3, delta=2.0)
    recipe = mm.Recipe(geometry=Factors(), pressure=rule, masking=Cycles(cycles=2))
    optimizer = wrap(model, recipe)
    strengths = []
    for epoch in range(12):  # epochs of two steps, four a phase
        strengths.append(optimizer.alpha)
        train(model, optimizer, range(2 * epoch, 2 * epoch + 2))
        optimizer.observe(0.5 + 0.01 * epoch)
    # It rises in the first half of a phase, falls in the second; the epoch that ends a phase
    # leaves nothing behind.
    assert strengths == [1e-3, 2e-3, 4e-3, 2e-3] * 3
    assert optimizer.alpha == 1e-3


def test_a_fall_of_accuracy_by_the_cut_is_no_fall_to_the_next_phase() -> None:
    model = net()
    rule = Algorithm1(alpha_init=1e-3, delta=2.0)
    recipe = mm.Recipe(geometry=Factors(), pressure=rule, masking=Cycles(cycles=2))
    optimizer = wrap(model, recipe)
    train(model, optimizer, range(8))
    optimizer.observe(0.9)
    train(model, optimizer, range(8, 10))
    optimizer.observe(0.1)
    assert optimizer.alpha == 2e-3


def test_the_search_for_the_target_starts_again_in_each_phase() -> None:
    model = net()
    recipe = mm.Recipe(
        geometry=Factors(),
        pressure=SeekTarget(until=1.0, intervals=8),
        masking=Cycles(cycles=2, rewind="weights"),
    )
    optimizer = wrap(model, recipe)
    for begin in (0, 8, 16):
        assert optimizer.pressure_state == recipe.pressure.start(1.0)
        assert optimizer.feedback.receive() is None
        assert optimizer.alpha == 0
        train(model, optimizer, range(begin, begin + 3))
        if begin == 0:
            assert optimizer.pressure_state["pace"] > 0
        train(model, optimizer, range(begin + 3, begin + 8))


RECIPES = {
    "wr": mm.Recipe(masking=Cycles(cycles=2, rewind="weights", store=0.4)),
    "lrr": mm.Recipe(masking=Cycles(cycles=2)),
    "pilot-wr": mm.Recipe(
        geometry=Factors(),
        pressure=SeekTarget(until=0.5, intervals=8),
        masking=Cycles(cycles=2, rewind="weights", store=0.4),
        rebalance=(1.0,),
    ),
    "algorithm1": mm.Recipe(
        geometry=Factors(), pressure=Algorithm1(alpha_init=1e-2), masking=Cycles(cycles=2)
    ),
}
every_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


def assert_same(one: nn.Module, two: nn.Module) -> None:
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[name]), name


@every_recipe
@pytest.mark.parametrize("at", [2, 8, 13, 16])
def test_a_run_resumes_bit_for_bit_anywhere_in_a_cycle(recipe: mm.Recipe, at: int) -> None:
    model = net()
    optimizer = wrap(model, recipe)
    train(model, optimizer, range(at))
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    file.seek(0)
    state, own = torch.load(file, weights_only=True)
    other = net()
    resumed = wrap(other, recipe)
    train(other, resumed, range(90, 95))  # stores weights of its own, to be forgotten
    other.load_state_dict(state)
    resumed.load_state_dict(own)
    for run, its in ((model, optimizer), (other, resumed)):
        train(run, its, range(at, STEPS))
    assert_same(model, other)
    assert optimizer.finalize() == resumed.finalize()
    assert_same(model, other)


@every_recipe
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_in_the_middle_of_a_cycle_go_on_by_themselves(recipe: mm.Recipe, how: str) -> None:
    model = net()
    optimizer = wrap(model, recipe)
    train(model, optimizer, range(5))
    pair = (model, optimizer)
    other, its = copy.deepcopy(pair) if how == "deepcopy" else pickle.loads(pickle.dumps(pair))
    train(other, its, range(5, STEPS))
    moved = copy.deepcopy(other)
    train(model, optimizer, range(5, STEPS))
    assert_same(other, moved)
    assert_same(model, other)
    assert optimizer.finalize() == its.finalize()
