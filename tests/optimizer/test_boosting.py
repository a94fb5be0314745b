"""A boosted run against the same run by hand, with a schedule, resumed, and where it is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import mirrormask as mm
from mirrormask.errors import ArgumentError, CheckpointError
from mirrormask.geometry import Euclidean, Factors, Geometry, Mirror, ScaledMirror
from mirrormask.masking import ProjectAndFreeze
from mirrormask.optimizer import RateBoost

STEPS = 40
FLAT = ScaledMirror(width=1e6)  # moves weights as the optimizer alone does


class Run:
    """Two layers, one of which stays dense, under gradients drawn for each step."""

    def __init__(
        self,
        boost: RateBoost | None,
        *,
        geometry: Geometry = FLAT,
        lr: float = 1e-3,
        momentum: float = 0.0,
        decay: float = 0.0,
    ) -> None:
        torch.manual_seed(0)
        layers = [nn.Linear(40, 30, bias=False), nn.Linear(30, 5, bias=False)]
        self.model = nn.ModuleList(layers).double()
        base = torch.optim.SGD(
            self.model.parameters(), lr=lr, momentum=momentum, weight_decay=decay
        )
        recipe = mm.Recipe(geometry=geometry, masking=ProjectAndFreeze(at=0.25), boost=boost)
        self.optimizer = mm.sparsify(
            base, self.model, sparsity=0.9, steps=STEPS, method=recipe, exclude=["1"]
        )

    @property
    def weight(self) -> Tensor:
        return self.model[0].weight.detach()

    def step(self, lr: float | None = None, size: float = 1.0) -> Tensor:
        """Return by how much a step under gradients of this size moves the first layer."""
        before, draw = self.weight.clone(), torch.Generator().manual_seed(self.optimizer.steps_done)
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] if lr is None else lr
        for layer in self.model:
            layer.weight.grad = torch.randn(layer.weight.shape, generator=draw).double() * size
        self.optimizer.step()
        return self.weight - before

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()


def boosts(boosted: Run, plain: Run, lr: float | None = None, size: float = 1.0) -> Tensor:
    """Return how much farther each live weight moves, from the same weights."""
    plain.model[0].weight.data.copy_(boosted.weight)
    far, near = boosted.step(lr, size), plain.step(lr, size)
    return (far / near)[near != 0]


@pytest.mark.parametrize("geometry", [FLAT, Mirror(a=1e6)], ids=repr)
def test_after_the_cut_a_step_is_as_much_longer_as_the_layer_is_sparser(geometry):
    lr = 1e-3 if geometry is FLAT else 5e-10  # Mirror moves by 2 a lr g
    boosted = Run(RateBoost(reach=1e9), geometry=geometry, lr=lr)
    plain = Run(None, geometry=geometry, lr=lr)
    # Ten steps to the cut, one that is measured.
    for _ in range(11):
        assert torch.equal(boosted.step(), plain.step())
    for _ in range(STEPS - 11):
        assert boosts(boosted, plain).numpy() == pytest.approx(10.0, rel=2e-3)


@pytest.mark.parametrize("geometry", [FLAT, Mirror(a=1e6)], ids=repr)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weights_wander_by_their_reach_and_no_farther(geometry, momentum):
    lr = 1e-3 if geometry is FLAT else 5e-10
    boosted = Run(RateBoost(reach=0.3, until=1.0), geometry=geometry, lr=lr, momentum=momentum)
    boosted.steps(12)
    strides = []
    for _ in range(STEPS - 12):
        size = boosted.weight.square().sum().sqrt()
        strides.append(float(boosted.step().square().sum().sqrt() / size))
    # Momentum makes the size of steps vary, and the fastest of them count.
    bound, mean = 0.3 / STEPS**0.5, sum(strides) / len(strides)
    assert (0.7 if momentum else 0.95) * bound < mean < 1.05 * bound


def test_where_gradients_vanish_the_boost_stays_as_it_is():
    # A limit that rose as steps get smaller would drive a dying network into infinity.
    boosted, plain = Run(RateBoost(reach=0.15, until=1.0)), Run(None)
    for step in range(STEPS):
        found = float(boosts(boosted, plain, size=1.0 if step < 20 else 0.01).mean())
        if step == 21:  # the last large step has been taken in
            once = found
            assert 2.0 < once < 8.0
        assert step < 21 or found == pytest.approx(once, rel=1e-6)


def test_a_rate_that_is_far_enough_is_left_alone():
    boosted, plain = Run(RateBoost(reach=1e-3)), Run(None)
    for _ in range(STEPS):
        assert torch.equal(boosted.step(), plain.step())


def test_a_schedule_keeps_its_shape():
    boosted, plain = Run(RateBoost(reach=0.15, until=0.5)), Run(None)
    for step in range(STEPS):
        found = boosts(boosted, plain, lr=1e-3 * (1 - step / STEPS))
        if step == 25:
            once = float(found.mean())
        if step >= 25:
            assert 2.0 < once < 8.0
            assert found.numpy() == pytest.approx(once, rel=1e-2)


def test_decay_is_boosted_with_the_rate():
    # As it would be if the caller had given the layer that rate: momentum aside, x (1 - 10 lr d).
    run = Run(RateBoost(reach=1e9), decay=0.1)
    run.steps(12)
    for layer in run.model:
        layer.weight.grad = torch.zeros_like(layer.weight)
    before = run.weight.clone()
    run.optimizer.step()
    live = before != 0
    assert (run.weight / before)[live].numpy() == pytest.approx(1 - 10 * 1e-4, rel=1e-6)


def test_dense_layers_keep_their_rate():
    boosted, plain = Run(RateBoost(reach=1e9)), Run(None)
    boosted.steps(STEPS)
    plain.steps(STEPS)
    assert torch.equal(boosted.model[1].weight, plain.model[1].weight)
    assert not torch.equal(boosted.weight, plain.weight)


@pytest.mark.parametrize("at", [5, 17, 30])
def test_a_resumed_run_is_boosted_alike(at):
    run = Run(RateBoost(reach=0.3), momentum=0.9)
    run.steps(at)
    state, model = copy.deepcopy(run.optimizer.state_dict()), copy.deepcopy(run.model.state_dict())
    run.steps(STEPS - at)
    again = Run(RateBoost(reach=0.3), momentum=0.9)
    again.model.load_state_dict(model)
    again.optimizer.load_state_dict(state)
    again.steps(STEPS - at)
    assert torch.equal(again.weight, run.weight)


@pytest.mark.parametrize(
    "damaged",
    [
        {"state": {"speed": 1.0}, "pending": None},
        {"state": {"speed": "1", "highest": 1.0}, "pending": None},
        {"state": {"speed": 1.0, "highest": 1.0}, "pending": [None]},
        {"state": {"speed": 1.0, "highest": 1.0}},
    ],
    ids=["a number is missing", "no number", "nothing pending", "no pending"],
)
def test_a_damaged_checkpoint_is_refused_and_nothing_changes(damaged):
    run = Run(RateBoost())
    run.steps(3)
    state = copy.deepcopy(run.optimizer.state_dict())
    state["mirrormask"]["boost"] = damaged
    before = copy.deepcopy(run.optimizer.boosting.state)
    with pytest.raises(CheckpointError, match="damaged"):
        run.optimizer.load_state_dict(state)
    assert run.optimizer.boosting.state == before


@pytest.mark.parametrize("geometry", [Euclidean(), Factors()], ids=repr)
def test_geometries_that_move_no_increments_are_refused_by_name(geometry):
    with pytest.raises(ArgumentError, match=f"{type(geometry).__name__} cannot scale the steps"):
        mm.Recipe(geometry=geometry, boost=RateBoost())
