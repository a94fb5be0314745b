"""Training loops as people write them: what works with the base optimizer works with this one."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import mirrormask as mm
from mirrormask.errors import OptimizerError
from mirrormask.geometry import Factors
from mirrormask.masking import ProjectAndFreeze
from mirrormask.pressure import Algorithm1, Constant

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


def test_it_is_an_optimizer_that_shares_the_groups(make_net) -> None:
    net = make_net()
    base = sgd(net)
    optimizer = wrap(net, base)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.param_groups is base.param_groups
    assert optimizer.param_groups[0]["params"] == list(net.parameters())
    assert optimizer.defaults == base.defaults
    assert "SparseOptimizer" in repr(optimizer)


def test_closures(make_net, train, loss) -> None:
    net, other = make_net(), make_net()
    optimizer, plain = wrap(net, sgd(net)), wrap(other, sgd(other))
    calls = []
    for step in range(STEPS):

        def closure(step: int = step) -> torch.Tensor:
            optimizer.zero_grad()
            value = loss(net, step)
            value.backward()
            calls.append(value.item())
            return value

        assert optimizer.step(closure).item() == calls[-1]
    train(other, plain, range(STEPS))
    assert len(calls) == STEPS
    assert same(net, other)


def test_a_scaled_loss_of_a_gradient_scaler(make_net, train, loss) -> None:
    net, other = make_net(), make_net()
    optimizer, plain = wrap(net, sgd(net)), wrap(other, sgd(other))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=4)
    for step in range(STEPS):
        optimizer.zero_grad()
        scaler.scale(loss(net, step)).backward()
        if step == 5:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    train(other, plain, range(STEPS))
    assert scaler.get_scale() == 2.0**11
    assert same(net, other)  # powers of two scale without rounding


def test_a_step_that_the_scaler_skips_is_no_step(make_net, loss) -> None:
    net = make_net()
    optimizer = wrap(net, sgd(net))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    before = copy.deepcopy(net)
    scaler.scale(loss(net, 0)).backward()
    net[0].weight.grad[0, 0] = torch.inf
    scaler.step(optimizer)
    scaler.update()
    assert optimizer.steps_done == 0
    assert same(net, before)


def test_clipping_sees_the_gradient_of_the_plain_weight(make_net, loss) -> None:
    net, other = make_net(), make_net()
    optimizer, by_hand = wrap(net, sgd(net)), wrap(other, sgd(other))
    for step in range(STEPS):
        optimizer.zero_grad()
        loss(net, step).backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), 0.05)
        assert norm > 0.05
        optimizer.step()
        by_hand.zero_grad()
        loss(other, step).backward()
        for parameter in other.parameters():
            parameter.grad.mul_(0.05 / (norm + 1e-6))
        by_hand.step()
    assert same(net, other)


def test_gradients_accumulate_between_steps(make_net, loss) -> None:
    net, other = make_net(), make_net()
    optimizer, at_once = wrap(net, sgd(net)), wrap(other, sgd(other))
    for step in range(STEPS):
        optimizer.zero_grad()
        loss(net, 2 * step).backward()
        loss(net, 2 * step + 1).backward()
        optimizer.step()
        at_once.zero_grad()
        (loss(other, 2 * step) + loss(other, 2 * step + 1)).backward()
        at_once.step()
    assert optimizer.steps_done == STEPS
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_unused_frozen_and_gradient_free_parameters(make_net, loss, recipe) -> None:
    net = nn.Sequential(*make_net(), nn.Linear(4, 4), nn.Linear(4, 4).requires_grad_(False))
    used = net[:3]
    unused = net[3].weight.detach().clone()
    frozen = net[4].weight.detach().clone()
    masking = recipe.masking
    optimizer = wrap(net, sgd(net), method=recipe, sparsity=0.5)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss(used, step).backward()
        if step == 3:
            net[0].weight.grad = None
        before = net[0].weight.detach().clone()
        optimizer.step()
        if step == 3 and masking.cut_after(4, STEPS, 0.5) is None:
            torch.testing.assert_close(net[0].weight.detach(), before, rtol=1e-6, atol=1e-8)
    assert set(optimizer.masks()) == {"0.weight", "2.weight", "3.weight"}
    mask = optimizer.masks()["3.weight"]
    torch.testing.assert_close(net[3].weight.detach(), unused * mask, rtol=1e-6, atol=1e-8)
    report = optimizer.finalize()
    assert report.zeros == 178
    assert torch.equal(net[4].weight, frozen)


def test_a_group_added_later_stays_dense(make_net, train) -> None:
    net = make_net()
    optimizer = wrap(net, sgd(net))
    extra = nn.Parameter(torch.ones(3, 3))
    optimizer.add_param_group({"params": [extra], "lr": 0.5})
    assert optimizer.base.param_groups[1]["params"] == [extra]
    assert optimizer.base.param_groups[1]["momentum"] == 0.9
    extra.grad = torch.ones(3, 3)
    train(net, optimizer, [])
    optimizer.step()
    assert torch.equal(extra, torch.full((3, 3), 0.5))
    with pytest.raises(ValueError, match=r"some parameters appear in more than one"):
        optimizer.add_param_group({"params": [net[0].weight]})
    assert len(optimizer.param_groups) == 2


def test_hooks_and_profiling_names_work_as_in_torch(make_net, train) -> None:
    net = make_net()
    optimizer = wrap(net, sgd(net))
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    train(net, optimizer, range(2))
    assert seen == ["before", "after"] * 2


@pytest.mark.parametrize("with_scheduler", ["with", "without"])
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_go_on_by_themselves(make_net, train, recipe, with_scheduler: str, how: str) -> None:
    net = make_net()
    optimizer = wrap(net, sgd(net), method=recipe)
    if with_scheduler == "with":
        lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)  # puts a wrapper on optimizer.step
    train(net, optimizer, range(7))
    pair = (net, optimizer)
    copies = copy.deepcopy(pair) if how == "deepcopy" else pickle.loads(pickle.dumps(pair))
    other, its = copies
    assert its.param_groups is its.base.param_groups
    assert its.param_groups[0]["params"][0] is other[0].weight
    train(other, its, range(7, STEPS))
    moved = other[0].weight.detach().clone()
    train(net, optimizer, range(7, STEPS))
    assert torch.equal(other[0].weight, moved)
    assert same(net, other)
    assert optimizer.finalize() == its.finalize()


def test_named_parameters(make_net, train) -> None:
    net, other = make_net(), make_net()
    named = torch.optim.SGD(net.named_parameters(), lr=0.05, momentum=0.9)
    optimizer, plain = wrap(net, named), wrap(other, sgd(other))
    train(net, optimizer, range(STEPS))
    train(other, plain, range(STEPS))
    assert same(net, other)


def test_a_base_that_has_stepped_already_starts_anew_on_the_latents(make_net, train) -> None:
    net = make_net()
    base = torch.optim.Adam(net.parameters(), lr=1e-2)
    train(net, base, range(5))
    optimizer = wrap(net, base)
    assert net[0].weight not in base.state  # nothing reads it any more
    assert "exp_avg" in base.state[net[0].bias]
    train(net, optimizer, range(STEPS))
    assert optimizer.finalize().zeros == 272


def test_observe_reaches_the_pressure(make_net, train) -> None:
    net = make_net()
    optimizer = wrap(
        net,
        sgd(net),
        method=mm.Recipe(geometry=Factors(), pressure=Algorithm1(alpha_init=1e-3, delta=2.0)),
    )
    alphas = []
    for epoch in range(4):
        train(net, optimizer, range(3))
        optimizer.observe(0.5 + epoch / 10)
        alphas.append(optimizer.alpha)
    assert alphas == [2e-3, 4e-3, 2e-3, 1e-3]


def test_l1_and_scales_are_those_of_the_targets(make_net, train) -> None:
    net = make_net()
    optimizer = wrap(net, sgd(net))
    wanted = net[0].weight.abs().sum() + net[2].weight.abs().sum()
    assert float(optimizer.l1()) == pytest.approx(float(wanted), rel=1e-6)
    assert optimizer.scales() == {"0.weight": pytest.approx(0.5), "2.weight": pytest.approx(0.5)}
    train(net, optimizer, range(5))
    assert all(0 < scale < 0.5 for scale in optimizer.scales().values())


def test_a_sparse_gradient_is_refused_by_name(make_net) -> None:
    net = nn.Embedding(10, 4, sparse=True)
    optimizer = wrap(net, torch.optim.SGD(net.parameters(), lr=0.1), include="weight")
    net(torch.tensor([1, 2])).sum().backward()
    before = net.weight.detach().clone()
    with pytest.raises(OptimizerError, match=r"'weight' has a sparse gradient: use sparse=False"):
        optimizer.step()
    assert torch.equal(net.weight, before)
    assert optimizer.steps_done == 0
