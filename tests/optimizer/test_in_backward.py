"""Steps inside backward, by the ways that people have to take them."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.optim import _apply_optimizer_in_backward

import mirrormask as mm
from mirrormask.errors import OptimizerError


def sgd(net: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(net.parameters(), lr=0.1)


HIDDEN: list[torch.optim.Optimizer] = []


class FusedSGD(torch.optim.SGD):
    """As LOMO: steps while backward runs, and its ``step`` does nothing."""

    def fused_backward(self, loss: Tensor, lr: float) -> None:
        loss.backward()


def in_a_closure(net: nn.Module) -> None:
    each = {p: torch.optim.SGD([p], lr=0.1) for p in net.parameters()}

    def hook(parameter: Tensor) -> None:
        each[parameter].step()
        each[parameter].zero_grad()

    for parameter in net.parameters():
        parameter.register_post_accumulate_grad_hook(hook)


def as_an_argument(net: nn.Module) -> None:
    def hook(optimizer: torch.optim.Optimizer, parameter: Tensor) -> None:
        optimizer.step()
        optimizer.zero_grad()

    base = sgd(net)
    net[0].weight.register_post_accumulate_grad_hook(functools.partial(hook, base))


def by_torch(net: nn.Module) -> None:
    _apply_optimizer_in_backward(torch.optim.SGD, net.parameters(), {"lr": 0.1})


@pytest.mark.parametrize("how", [in_a_closure, as_an_argument, by_torch])
def test_refused_before_anything_is_touched(make_net, how) -> None:
    net = make_net()
    how(net)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(OptimizerError, match=r"'0.weight' is stepped by an optimizer inside the"):
        mm.sparsify(sgd(net), net, sparsity=0.5, steps=3)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_an_optimizer_made_for_it_is_refused(make_net) -> None:
    net = make_net()
    with pytest.raises(OptimizerError, match=r"FusedSGD steps inside the backward pass, where"):
        mm.sparsify(FusedSGD(net.parameters(), lr=0.1), net, sparsity=0.5, steps=3)


def test_a_hook_that_hides_its_optimizer_is_met_in_the_first_step(make_net, loss) -> None:
    net = make_net()
    HIDDEN.append(sgd(net))

    def hook(parameter: Tensor) -> None:
        HIDDEN[0].step()
        parameter.grad = None

    for parameter in net.parameters():
        parameter.register_post_accumulate_grad_hook(hook)
    optimizer = mm.sparsify(sgd(net), net, sparsity=0.5, steps=3)
    loss(net, 0).backward()
    with pytest.raises(
        OptimizerError, match=r"No weight has a gradient, and '0.weight' has a hook"
    ):
        optimizer.step()
    assert optimizer.steps_done == 0


def test_hooks_that_only_look_are_welcome(make_net, train) -> None:
    net, seen = make_net(), []
    net[0].weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.norm().item()))
    optimizer = mm.sparsify(sgd(net), net, sparsity=0.5, steps=3)
    train(net, optimizer, range(3))
    assert len(seen) == 3
    assert optimizer.finalize().zeros == 170
