"""AC/DC: the timetable of its phases, and what a dense phase gives back."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.geometry import Factors, Geometry
from mirrormask.masking import ACDC, Block, Pattern, Rows, keep_at

STEPS = 20


def timetable(policy: ACDC, steps: int, sparsity: float) -> dict[int, float]:
    cuts = {step: policy.cut_after(step, steps, sparsity) for step in range(steps + 1)}
    return {step: cut for step, cut in cuts.items() if cut is not None}


def test_the_paper_s_run_of_100_epochs() -> None:
    # Table of the paper: dense to 10, then 5 epochs each; the last compressed phase from 85 on.
    # With 100 steps for epochs the 75 in between make 15 phases: 7 dense and 8 compressed ones.
    policy = ACDC(warmup=0.1, final=0.15 + 0.05, cycles=7)
    wanted = {10 + 5 * k: 0.0 if k % 2 else 0.9 for k in range(15)}
    assert timetable(policy, 100, 0.9) == wanted


@given(st.floats(0, 0.5), st.floats(0.05, 0.45), st.integers(1, 8), st.integers(1, 400), st.data())
def test_phases_alternate_and_the_last_is_compressed(
    warmup: float, final: float, cycles: int, steps: int, data: st.DataObject
) -> None:
    sparsity = data.draw(st.floats(0.01, 0.99))
    table = timetable(ACDC(warmup=warmup, final=final, cycles=cycles), steps, sparsity)
    assert list(table.values())[-1] == sparsity
    assert set(table.values()) <= {0.0, sparsity}
    assert abs(list(table)[-1] - (1 - final) * steps) <= 0.5 + 1e-9
    length = (1 - final - warmup) * steps / (2 * cycles)
    if length > 1:  # every phase has a step of its own
        assert list(table.values()) == [sparsity, 0.0] * cycles + [sparsity]
        gaps = [b - a for a, b in zip(table, list(table)[1:], strict=False)]
        assert abs(next(iter(table)) - warmup * steps) <= 0.5 + 1e-9
        assert all(math.floor(length) <= gap <= math.ceil(length) for gap in gaps)


def net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(10, 12), nn.Tanh(), nn.Linear(12, 4))


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> Tensor:
    batch = torch.randn(16, 10, generator=torch.Generator().manual_seed(number))
    optimizer.zero_grad()
    (model(batch) - batch[:, :4]).square().mean().backward()
    grad = model[0].weight.grad.clone()
    optimizer.step()
    return grad


def test_it_is_sgd_whose_mask_comes_and_goes() -> None:
    """The algorithm written plainly: masked steps, momentum that forgets what is cut."""
    policy = ACDC(warmup=0.2, final=0.4, cycles=1)  # compress at 4, release at 8, compress at 12
    ours, theirs = net(), net()
    base = torch.optim.SGD(ours.parameters(), lr=0.1, momentum=0.9)
    recipe = mm.Recipe(masking=policy)
    optimizer = mm.sparsify(base, ours, sparsity=0.7, steps=STEPS, method=recipe)
    matrices = [theirs[0].weight, theirs[2].weight]
    velocity = [torch.zeros_like(p) for p in theirs.parameters()]
    masks = [torch.ones_like(p, dtype=torch.bool) for p in theirs.parameters()]
    for number in range(STEPS):
        train_step(ours, optimizer, number)
        batch = torch.randn(16, 10, generator=torch.Generator().manual_seed(number))
        theirs.zero_grad()
        (theirs(batch) - batch[:, :4]).square().mean().backward()
        with torch.no_grad():
            for p, v, mask in zip(theirs.parameters(), velocity, masks, strict=True):
                v.mul_(0.9).add_(p.grad * mask)
                p.sub_(0.1 * v)
            done = number + 1
            if done in (4, 12):
                kept = keep_at([p.abs() for p in matrices], 0.7, "global")
                masks[0], masks[2] = kept
            if done == 8:
                masks = [torch.ones_like(mask) for mask in masks]
            for p, v, mask in zip(theirs.parameters(), velocity, masks, strict=True):
                p.mul_(mask)
                v.mul_(mask)
        for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)
    assert optimizer.finalize().zeros == round(0.7 * 168)


@pytest.mark.parametrize("geometry", [None, Factors()], ids=["euclidean", "factors"])
def test_a_dense_phase_starts_at_zero_and_all_weights_move(geometry: Geometry | None) -> None:
    policy = ACDC(warmup=0.2, final=0.4, cycles=1)
    recipe = (
        mm.Recipe(masking=policy)
        if geometry is None
        else mm.Recipe(geometry=geometry, masking=policy)
    )
    model = net()
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = mm.sparsify(base, model, sparsity=0.7, steps=STEPS, method=recipe)
    for number in range(8):
        train_step(model, optimizer, number)
    assert all(mask.all() for mask in optimizer.masks().values())
    idle = model[0].weight == 0
    assert idle.sum() > 40
    train_step(model, optimizer, 8)
    assert (model[2].weight != 0).all()
    train_step(model, optimizer, 9)  # a unit without outputs had no gradient before
    assert (model[0].weight != 0).all()


@pytest.mark.parametrize("pattern", [Rows(), Block(rows=1, columns=4)], ids=repr)
def test_weights_that_came_back_but_never_moved_do_not_spoil_the_count(pattern: Pattern) -> None:
    torch.manual_seed(1)
    model = nn.Linear(4, 2, bias=False)
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    policy = ACDC(warmup=0.2, final=0.1, cycles=1, pattern=pattern)
    optimizer = mm.sparsify(
        base, model, sparsity=0.5, steps=STEPS, method=mm.Recipe(masking=policy)
    )
    with torch.no_grad():
        model.weight[0] = 0.01  # the first row to be cut, and the one that grows later
    batch = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    for number in range(STEPS):
        optimizer.zero_grad()
        if number >= 4:
            (model(batch) - torch.tensor([[8.0, 0.0]])).square().sum().backward()
        optimizer.step()
    assert optimizer.finalize().zeros == 4
    assert (model.weight[0] != 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cycles": 0}, "cycles=0 is too few: use at least 1"),
        ({"warmup": -0.1}, r"warmup=-0\.1 and final=0\.15 leave no time for cycles"),
        ({"final": 0.0}, r"final=0\.0 leave no time"),
        ({"warmup": 0.5, "final": 0.5}, r"use warmup >= 0 and final > 0 with a sum below 1"),
        ({"warmup": math.nan}, "warmup=nan"),
        ({"scope": "layer"}, "scope='layer' is unknown"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        ACDC(**options)
