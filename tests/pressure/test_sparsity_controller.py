"""The controller: its reactions by hand, what it measures, and that it steers to the target."""

from __future__ import annotations

import pytest
import torch

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.geometry import Bregman
from mirrormask.pressure import Clock, SparsityController


def clock(step: int, steps: int = 1000) -> Clock:
    return Clock(step=step, steps=steps, rate=0.1)


def test_reactions_are_those_worked_out_by_hand() -> None:
    pressure = SparsityController(strength=1.0, gain=0.5, damping=0.8)
    state, seen = pressure.start(1.0), []
    for zeros in (0.1, 0.2, 0.95, 0.9, 0.92, 0.5):
        state = pressure.react(state, [zeros, 0.9], clock(50))
        seen.append(pressure.alpha(state, clock(50)))
    up = 1.5 * 1.5
    down = up / (1 + 0.5 * 0.8)  # passed once
    again = down / (1 + 0.5 * 0.8)  # exactly met in between: nothing changes, nothing is passed
    back = again * (1 + 0.5 * 0.8**2)
    assert seen == pytest.approx([1.5, up, down, down, again, back])


def test_it_measures_the_zeros_beside_the_target() -> None:
    pressure = SparsityController(strength=1.0)
    sizes = [torch.tensor([[0.0, 1.0], [0.0, 1e-30]]), torch.tensor([0.0])]
    assert pressure.measure(sizes, 0.75).tolist() == pytest.approx([0.6, 0.75])
    assert [step for step in range(101) if pressure.measures_at(clock(step))] == [0, 50, 100]
    early = SparsityController(strength=1.0, until=0.1)
    assert [step for step in range(301) if early.measures_at(clock(step))] == [0, 50]


def test_the_target_rises_along_a_cubic_of_the_step_that_was_measured() -> None:
    pressure = SparsityController(strength=1.0, every=100, ramp=0.5)
    for measured, asked in ((100, 0.8 * (1 - 0.8**3)), (500, 0.8), (900, 0.8)):
        for offset, want in ((-1e-6, 1), (1e-6, -1)):
            state = pressure.react(
                pressure.start(1.0), [asked + offset, 0.8], clock(measured + 100)
            )
            assert state["side"] == want


def test_the_strength_is_bounded_and_never_0() -> None:
    pressure = SparsityController(strength=2.0, gain=3.0, reach=100.0)
    for zeros, bound in ((0.0, 200.0), (1.0, 0.02)):
        state = pressure.start(1.0)
        for _ in range(20):
            state = pressure.react(state, [zeros, 0.9], clock(50))
        assert state["alpha"] == bound


@pytest.mark.parametrize("strength", [0.005, 2.0])
def test_it_steers_to_the_target_from_either_side(strength: float) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(40, 20, bias=False)
    recipe = mm.Recipe(
        geometry=Bregman(level=0.02, density=1.0),
        pressure=SparsityController(strength=strength, every=2),
    )
    base = torch.optim.SGD(layer.parameters(), lr=0.1)
    optimizer = mm.sparsify(base, layer, sparsity=0.8, steps=300, method=recipe)
    for _ in range(300):  # no gradient: the zeros are those that the level makes
        layer.weight.grad = torch.zeros_like(layer.weight)
        optimizer.step()
    assert (layer.weight == 0).float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert optimizer.finalize().zeros == 640


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.0}, r"strength=0\.0 steers nothing"),
        ({"gain": -0.1}, r"gain=-0\.1 steers nothing"),
        ({"every": 0}, "every=0 is no interval"),
        ({"damping": 0.0}, r"damping=0\.0 is no factor"),
        ({"ramp": 1.5}, r"ramp=1\.5 is no part of the run"),
        ({"until": 0.0}, r"until=0\.0 is not a part of the run"),
        ({"reach": 0.5}, r"reach=0\.5 leaves no room"),
    ],
)
def test_options_without_sense_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        SparsityController(**{"strength": 1.0} | options)
