"""RigL and SET: the update as the paper writes it, its timetable, and what grows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.geometry import Factors
from mirrormask.masking import SET, Candidates, NofM, Regrowth, RigL, zeros_per_tensor
from mirrormask.masking.regrowth import drop_and_grow

STEPS = 24


def by_hand(magnitude: list, kept: list, growth: list, moved: int) -> set[int]:
    """Return the kept indices: drop the ``moved`` smallest, grow the best of the others."""
    alive = sorted((i for i, keep in enumerate(kept) if keep), key=lambda i: magnitude[i])
    stays = set(alive[moved:])
    others = sorted((i for i in range(len(kept)) if i not in stays), key=lambda i: -growth[i])
    return stays | set(others[:moved])


@given(st.integers(1, 40), st.integers(0, 40), st.floats(0, 0.99), st.integers(0, 10**6))
def test_drop_and_grow_is_a_sort_and_a_sort(size: int, live: int, part: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    magnitude, growth = torch.rand(2, size, generator=generator)
    kept = torch.randperm(size, generator=generator) < min(live, size)
    wanted = by_hand(
        magnitude.tolist(), kept.tolist(), growth.tolist(), math.floor(part * min(live, size))
    )
    shape = (2, size // 2) if size % 2 == 0 else (size,)
    mask = drop_and_grow(magnitude.view(shape), kept.view(shape), growth.view(shape), part)
    assert mask.shape == shape
    assert set(mask.flatten().nonzero().flatten().tolist()) == wanted


def test_the_fraction_follows_a_cosine() -> None:
    policy = RigL(fraction=0.4, until=0.5, updates=5)
    kept = torch.arange(2000) < 1000
    magnitude = torch.arange(2000.0)
    growth = torch.where(kept, 0.0, 1.0)  # never what was just dropped
    for step, part in [(1, 0.4 / 2 * (1 + math.cos(math.pi / 50))), (25, 0.2), (50, 0.0)]:
        candidates = Candidates(
            magnitudes=[magnitude],
            kept=[kept],
            gradients=[growth],
            step=step,
            steps=100,
            generator=torch.Generator(),
        )
        mask = policy.choose(candidates, 0.5)[0]
        assert int((kept & ~mask).sum()) == math.floor(part * 1000 + 1e-9)
        assert mask.sum() == 1000


@given(st.integers(1, 60), st.floats(0.05, 1), st.integers(1, 400))
def test_updates_are_evenly_spaced_and_never_after_their_end(
    updates: int, until: float, steps: int
) -> None:
    policy = SET(updates=updates, until=until)
    done = [s for s in range(steps + 1) if policy.cut_after(s, steps, 0.9) is not None]
    assert done[0] == 0
    # A point of the grid counts in the step in which it goes by; many may fall into one step.
    grid = {math.ceil(until * steps * k / updates - 1e-9) for k in range(1, updates + 1)}
    assert set(done[1:]) == {step for step in grid if step < steps}


@pytest.mark.parametrize("policy", [RigL(updates=4, until=0.5), SET(updates=4, until=0.5)])
def test_gradients_are_asked_for_where_they_are_used(policy: Regrowth) -> None:
    wanted = [policy.needs_gradients(step, STEPS) for step in range(STEPS + 1)]
    updates = [step in (3, 6, 9, 12) for step in range(STEPS + 1)]
    assert wanted == (updates if isinstance(policy, RigL) else [False] * (STEPS + 1))


def test_rigl_without_gradients_is_an_error_in_the_caller() -> None:
    candidates = Candidates(
        magnitudes=[torch.ones(4)],
        kept=[torch.ones(4, dtype=torch.bool)],
        gradients=None,
        step=3,
        steps=STEPS,
        generator=torch.Generator(),
    )
    with pytest.raises(LookupError, match="RigL grows by gradients, and none were kept"):
        RigL().choose(candidates, 0.5)


def net() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(10, 14), nn.ReLU(), nn.Linear(14, 4))


def loss_of(model: nn.Module, number: int) -> Tensor:
    batch = torch.randn(16, 10, generator=torch.Generator().manual_seed(number))
    return (model(batch) - batch[:, :4]).square().mean()


def wrap(model: nn.Module, recipe: mm.Recipe, seed: int = 0) -> mm.SparseOptimizer:
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return mm.sparsify(base, model, sparsity=0.7, steps=STEPS, method=recipe, seed=seed)


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    optimizer.zero_grad()
    loss_of(model, number).backward()
    optimizer.step()


def masks_of(optimizer: mm.SparseOptimizer) -> list[Tensor]:
    return [mask.clone() for mask in optimizer.masks().values()]


def test_rigl_is_masked_sgd_with_the_paper_s_update() -> None:
    policy = RigL(fraction=0.5, updates=4, until=0.5)
    ours, theirs = net(), net()
    optimizer = wrap(ours, mm.Recipe(masking=policy))
    first = iter(masks_of(optimizer))
    parameters = list(theirs.parameters())
    masks = [next(first) if p.ndim == 2 else torch.ones_like(p).bool() for p in parameters]
    velocity = [torch.zeros_like(p) for p in parameters]
    with torch.no_grad():
        for p, mask in zip(parameters, masks, strict=True):
            p.mul_(mask)
    for number in range(STEPS):
        train_step(ours, optimizer, number)
        theirs.zero_grad()
        loss_of(theirs, number).backward()
        part = 0.5 / 2 * (1 + math.cos(math.pi * (number + 1) / (STEPS * 0.5)))
        for i, p in enumerate(parameters):
            with torch.no_grad():
                velocity[i].mul_(0.9).add_(p.grad * masks[i])
                p.sub_(0.1 * velocity[i])
                if p.ndim == 2 and number + 1 in (3, 6, 9, 12):
                    live = masks[i].flatten()
                    new = by_hand(
                        p.abs().flatten().tolist(),
                        live.tolist(),
                        p.grad.abs().flatten().tolist(),
                        math.floor(part * int(live.sum())),
                    )
                    masks[i] = torch.tensor([k in new for k in range(p.numel())]).view(p.shape)
                    p.mul_(masks[i])
                    velocity[i].mul_(masks[i])
        for one, two in zip(ours.parameters(), parameters, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)
    assert optimizer.finalize().zeros == round(0.7 * 196)


@pytest.mark.parametrize("scope", ["erk", "uniform"])
@pytest.mark.parametrize("policy", [RigL, SET])
def test_every_tensor_keeps_its_count_in_every_step(policy: type[Regrowth], scope: str) -> None:
    model = net()
    optimizer = wrap(model, mm.Recipe(masking=policy(scope=scope, updates=6, fraction=0.5)))
    shapes = [(14, 10), (4, 14)]
    wanted = zeros_per_tensor(shapes, 0.7, scope)
    seen = set()
    for number in range(STEPS):
        masks = masks_of(optimizer)
        assert [int((~mask).sum()) for mask in masks] == wanted
        assert all(
            not w[~m].any() for w, m in zip((model[0].weight, model[2].weight), masks, strict=True)
        )
        seen.add(tuple(masks[0].flatten().tolist()))
        train_step(model, optimizer, number)
    assert len(seen) >= 5
    assert optimizer.finalize().zeros == sum(wanted)


@pytest.mark.parametrize("geometry", [None, Factors()], ids=["euclidean", "factors"])
@pytest.mark.parametrize("policy", [RigL, SET])
def test_grown_weights_start_at_zero_without_momentum(policy: type[Regrowth], geometry) -> None:
    options = {} if geometry is None else {"geometry": geometry}
    model = net()
    recipe = mm.Recipe(masking=policy(updates=4, until=0.5, fraction=0.5), **options)
    optimizer = wrap(model, recipe)
    for number in range(2):
        train_step(model, optimizer, number)
    before = masks_of(optimizer)[0]
    train_step(model, optimizer, 2)
    grown = masks_of(optimizer)[0] & ~before
    assert grown.sum() >= 5
    assert not model[0].weight[grown].any()
    for slot in optimizer.weights[model[0].weight].slots.values():
        assert not optimizer.base.state[slot]["momentum_buffer"][grown].any()
    train_step(model, optimizer, 3)
    assert model[0].weight[grown].any()


def test_rigl_grows_by_the_gradient_where_it_is_cut() -> None:
    model = net()
    optimizer = wrap(model, mm.Recipe(masking=RigL(updates=4, until=0.5, fraction=0.4)))
    for number in range(2):
        train_step(model, optimizer, number)
    before = masks_of(optimizer)[0]
    optimizer.zero_grad()
    loss_of(model, 2).backward()
    gradient = model[0].weight.grad.abs().clone()
    optimizer.step()
    after = masks_of(optimizer)[0]
    grown, passed_over = after & ~before, ~after & ~before
    assert grown.any()
    assert gradient[grown].min() >= gradient[passed_over].max() > 0


def test_set_grows_at_random_from_the_seed_alone() -> None:
    def masks(seed: int, noise: int) -> Tensor:
        model = net()
        optimizer = wrap(model, mm.Recipe(masking=SET(updates=4, fraction=0.5)), seed)
        torch.manual_seed(noise)
        start = masks_of(optimizer)[0]
        for number in range(6):
            train_step(model, optimizer, number)
        return torch.stack([start, masks_of(optimizer)[0]])

    assert torch.equal(masks(1, noise=3), masks(1, noise=4))
    one, two = masks(1, noise=3), masks(2, noise=3)
    assert not torch.equal(one[0], two[0])
    assert not torch.equal(one[0], one[1])


def test_set_grows_everywhere_alike() -> None:
    kept = torch.arange(4000) < 2000
    policy, grown = SET(fraction=0.5, until=1.0), torch.zeros(4000)
    for seed in range(50):
        candidates = Candidates(
            magnitudes=[torch.arange(4000.0)],
            kept=[kept],
            gradients=None,
            step=1,
            steps=10**6,
            generator=torch.Generator().manual_seed(seed),
        )
        grown += policy.choose(candidates, 0.5)[0] & ~kept
    # 999 of 2,000 + 999 dropped or cut ones are grown; those that were cut in equal parts.
    lower, upper = grown[2000:3000].mean() / 50, grown[3000:].mean() / 50
    assert float(lower) == pytest.approx(999 / 2999, abs=0.015)
    assert float(upper) == pytest.approx(999 / 2999, abs=0.015)


@pytest.mark.parametrize("policy", [RigL, SET])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0}, r"fraction=0\.0 is not a part: use a number in \(0, 1\)"),
        ({"fraction": 1.0}, r"fraction=1\.0 is not a part"),
        ({"fraction": math.nan}, "fraction=nan"),
        ({"updates": 0}, "updates=0 is too few: use at least 1"),
        ({"until": 0.0}, r"until=0\.0 is not a part of the run: use a number in \(0, 1\]"),
        ({"until": 1.1}, r"until=1\.1 is not a part of the run"),
        ({"scope": "layer"}, "scope='layer' is unknown"),
        ({"pattern": NofM(2, 4)}, r"moves single weights: leave pattern=NofM\(n=2, m=4\) out"),
    ],
)
def test_bad_options_are_refused(policy: type[Regrowth], options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        policy(**options)
