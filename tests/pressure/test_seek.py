"""The target-seeking pressure: in time, at any learning rate, within its bounds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.geometry import Euclidean, Factors, Geometry, Mirror
from mirrormask.masking import AtEnd
from mirrormask.pressure import Clock, SeekTarget


def idle_run(
    geometry: Geometry,
    pressure: SeekTarget,
    *,
    lr: float = 0.1,
    momentum: float = 0.9,
    steps: int = 400,
    sparsity: float = 0.8,
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Return weights before and after a run whose gradients are all zero, and the budget."""
    torch.manual_seed(0)
    net = nn.Linear(50, 40, bias=False)
    before = net.weight.detach().abs().flatten().sort().values
    recipe = mm.Recipe(geometry=geometry, pressure=pressure, masking=AtEnd())
    base = torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum)
    optimizer = mm.sparsify(base, net, sparsity=sparsity, steps=steps, method=recipe)
    net.weight.grad = torch.zeros_like(net.weight)
    for _ in range(steps):
        optimizer.step()
    return before, net.weight.detach().abs().flatten().sort().values, optimizer.budget


@pytest.mark.parametrize(
    "geometry", [Euclidean(), Factors(), Mirror(), Factors(beta=0.1)], ids=repr
)
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.95])
def test_what_nothing_holds_all_but_vanishes(geometry: Geometry, sparsity: float) -> None:
    before, after, _ = idle_run(geometry, SeekTarget(push=1.0), sparsity=sparsity)
    largest_to_cut = round(sparsity * len(before)) - 1
    assert after[largest_to_cut] < 0.06 * before[largest_to_cut]
    assert after[-1] > 0
    zeros = int((after == 0).sum())
    assert 0.8 * sparsity * len(before) < zeros <= sparsity * len(before)


@pytest.mark.parametrize("lr", [1e-3, 1.0])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("steps", [100, 1000])
def test_path_does_not_depend_on_rate_momentum_or_length(
    lr: float, momentum: float, steps: int
) -> None:
    _, usual, budget = idle_run(Factors(), SeekTarget())
    _, other, other_budget = idle_run(
        Factors(), SeekTarget(), lr=lr, momentum=momentum, steps=steps
    )
    assert other_budget == pytest.approx(budget, rel=0.03)
    torch.testing.assert_close(other, usual, atol=0.002, rtol=0.05)


def test_decay_takes_the_largest_weight_to_be_cut_to_the_tail() -> None:
    pressure = SeekTarget(application="decay", push=1.0, tail=0.2)
    # Without momentum: what a momentum buffer still holds when the pressure ends is spent later.
    before, after, _ = idle_run(Factors(), pressure, momentum=0.0, sparsity=0.8)
    assert float(after[1599] / before[1599]) == pytest.approx(0.2, rel=0.1)


def test_nothing_asked_nothing_pressed() -> None:
    before, after, budget = idle_run(Euclidean(), SeekTarget(), sparsity=0.0)
    assert budget == 0.0
    assert torch.equal(before, after)


def test_pressure_ends_in_time() -> None:
    pressure = SeekTarget(until=0.5)
    state = pressure.start(1.0) | {"pace": 1.0, "first_pace": 1.0, "first_distance": 1.0}
    on = [pressure.alpha(state, Clock(step=s, steps=10, rate=0.5)) > 0 for s in range(10)]
    assert on == [True] * 5 + [False] * 5
    assert pressure.alpha(state, Clock(step=0, steps=10, rate=0.0)) == 0.0


@given(
    distances=st.lists(st.floats(0, 1e6) | st.just(math.inf) | st.just(math.nan), max_size=60),
    slack=st.floats(1, 10),
    application=st.sampled_from(["proximal", "decay"]),
)
def test_pace_is_bounded_whatever_is_measured(
    distances: list[float], slack: float, application: str
) -> None:
    pressure = SeekTarget(slack=slack, application=application)  # type: ignore[arg-type]
    state = pressure.start(1.0)
    for step, distance in enumerate(distances):
        state = pressure.react(state, [distance], Clock(step=step, steps=100, rate=0.1))
        assert 0 <= state["pace"] <= slack * state["first_pace"]
        assert math.isfinite(pressure.alpha(state, Clock(step=step, steps=100, rate=0.1)))


@given(
    distance=st.floats(0, 1e3),
    pull=st.floats(0, 1e3) | st.just(math.inf) | st.just(math.nan),
    bound=st.floats(0.01, 10),
)
def test_strength_stays_within_the_bound_on_the_last_pull_that_was_measured(
    distance: float, pull: float, bound: float
) -> None:
    pressure = SeekTarget(bound=bound)
    clock = Clock(step=1, steps=100, rate=0.1)
    state = pressure.react(pressure.start(1.0), [distance, 0.5], clock)
    free = SeekTarget().react(SeekTarget().start(1.0), [distance], clock)
    assert pressure.alpha(state, clock) == pytest.approx(
        min(SeekTarget().alpha(free, clock), bound * 0.5 / 2)
    )
    known = pull if math.isfinite(pull) else 0.5
    state = pressure.react(state, [distance, pull], clock)
    assert pressure.alpha(state, clock) <= bound * known / 2 * (1 + 1e-12)


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    sparsity=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 99),
)
def test_measure_is_the_order_statistic(sizes: list[int], sparsity: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.rand(size, generator=generator) for size in sizes]
    ordered = sorted(value for tensor in tensors for value in tensor.tolist())
    zeros = min(len(ordered), math.floor(sparsity * len(ordered) + 0.5))
    expected = ordered[zeros - 1] if zeros else 0.0
    assert SeekTarget().measure(tensors, sparsity).tolist() == [pytest.approx(expected)]


@pytest.mark.parametrize("intervals", [1, 7, 100, 10_000])
def test_measurements_are_spread_over_the_pressed_part(intervals: int) -> None:
    pressure = SeekTarget(intervals=intervals, until=0.5)
    at = [s for s in range(1000) if pressure.measures_at(Clock(step=s, steps=1000, rate=0.1))]
    assert at[0] == 0
    assert at[-1] < 500
    assert len(at) == pytest.approx(min(intervals, 500), rel=0.2)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"push": 0.0}, "push=0.0"),
        ({"push": math.nan}, "push=nan"),
        ({"slack": 0.5}, "slack=0.5"),
        ({"until": 0.0}, "until=0.0"),
        ({"until": 1.5}, "until=1.5"),
        ({"intervals": 0}, "intervals=0"),
        ({"tail": 1.0}, "tail=1.0"),
        ({"bound": 0.0}, "bound=0.0"),
        ({"bound": math.inf}, "bound=inf"),
        ({"application": "magic"}, "application='magic'"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(ArgumentError, match=named):
        SeekTarget(**options)  # type: ignore[arg-type]
