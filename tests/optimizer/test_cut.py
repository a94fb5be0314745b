"""A frozen mask covers the value, the gradient and every buffer, whatever happens around it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

import mirrormask as mm
from mirrormask.geometry import Euclidean, Factors, Mirror
from mirrormask.masking import Masking, ProjectAndFreeze
from mirrormask.pressure import Constant

BASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=3e-3),
    "amsgrad": lambda p: torch.optim.AdamW(p, lr=3e-3, amsgrad=True, weight_decay=0.0),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.9, centered=True),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=0.5),
    "nadam": lambda p: torch.optim.NAdam(p, lr=3e-3),
}

GEOMETRIES = {
    "factors": mm.Recipe(geometry=Factors(), pressure=Constant(strength=1e-3)),
    "mirror": mm.Recipe(geometry=Mirror(), pressure=Constant(strength=1e-3)),
    "proximal": mm.Recipe(
        geometry=Euclidean(), pressure=Constant(strength=1e-4, application="proximal")
    ),
    "euclidean": mm.Recipe(),
}


def frozen(
    net: nn.Module, train, kind: str, geometry: str, scope: str = "global"
) -> mm.SparseOptimizer:
    """Train for 10 of 30 steps with a cut after the fifth."""
    recipe = GEOMETRIES[geometry]
    recipe = mm.Recipe(
        geometry=recipe.geometry,
        pressure=recipe.pressure,
        masking=ProjectAndFreeze(at=5 / 30, scope=scope),
    )
    optimizer = mm.sparsify(
        BASES[kind](net.parameters()), net, sparsity=0.7, steps=30, method=recipe
    )
    train(net, optimizer, range(5))
    return optimizer


def hidden_state(optimizer: mm.SparseOptimizer) -> dict[str, list[Tensor]]:
    """All tensors of weight size that the optimizer keeps for each target."""
    found: dict[str, list[Tensor]] = {}
    for weight in optimizer.weights.values():
        shape = weight.parameter.shape
        kept = [*weight.latents.values()]
        for slot in weight.slots.values():
            kept += [v for v in optimizer.base.state[slot].values() if isinstance(v, Tensor)]
        found[weight.name] = [tensor for tensor in kept if tensor.shape == shape]
    return found


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_value_gradient_and_buffers_stay_zero(
    make_net, train, loss, kind: str, geometry: str
) -> None:
    net = make_net()
    optimizer = frozen(net, train, kind, geometry)
    masks = {name: mask.clone() for name, mask in optimizer.masks().items()}
    parameters = dict(net.named_parameters())
    live_before = {name: parameters[name].detach().clone() for name in masks}
    assert sum(int((~mask).sum()) for mask in masks.values()) == 238
    for step in range(5, 10):
        for name, tensors in hidden_state(optimizer).items():
            assert not parameters[name][~masks[name]].any()
            for tensor in tensors:
                assert not tensor[~masks[name]].any(), (name, step)
        optimizer.zero_grad()
        loss(net, step).backward()
        assert any(parameters[name].grad[~masks[name]].any() for name in masks)
        optimizer.step()
        for name, mask in masks.items():
            assert not parameters[name].grad[~mask].any()
    assert all(torch.equal(mask, masks[name]) for name, mask in optimizer.masks().items())
    for name, mask in masks.items():  # the others go on learning
        assert (parameters[name] != live_before[name])[mask].any()
    report = optimizer.finalize()
    assert report.zeros == 238


EDITS = {
    "add_": lambda p: p.data.add_(1.0),
    "copy_": lambda p: p.data.copy_(torch.ones_like(p)),
    "data": lambda p: setattr(p, "data", torch.full_like(p, -0.5)),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("gradient", ["present", "absent"])
def test_the_mask_survives_edits(
    make_net, train, loss, edit: str, geometry: str, gradient: str
) -> None:
    net = make_net()
    optimizer = frozen(net, train, "momentum", geometry)
    masks = optimizer.masks()
    with torch.no_grad():
        EDITS[edit](net[0].weight)
    edited = net[0].weight.detach().clone()
    optimizer.zero_grad()
    loss(net, 6).backward()
    if gradient == "absent":
        net[0].weight.grad = None
    optimizer.step()
    mask = masks["0.weight"]
    assert torch.equal(optimizer.masks()["0.weight"], mask)
    assert not net[0].weight[~mask].any()
    kept = net[0].weight.detach()[mask]
    torch.testing.assert_close(
        kept, edited[mask], atol=0.2 if gradient == "present" else 1e-6, rtol=0
    )
    assert optimizer.finalize().zeros == 238


def test_optimizer_state_loaded_after_the_cut_is_masked_by_the_gradient_alone(
    make_net, train
) -> None:
    # A user who writes into a buffer by hand meets the mask again at the next step.
    net = make_net()
    optimizer = frozen(net, train, "momentum", "mirror")
    mask = optimizer.masks()["0.weight"]
    (slot,) = optimizer.weights[net[0].weight].slots.values()
    optimizer.base.state[slot]["momentum_buffer"].add_(0.1)
    train(net, optimizer, range(5, 8))
    assert not net[0].weight[~mask].any()


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", ["momentum", "adam"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_wild_gradient_of_a_cut_weight_does_nothing(
    make_net, geometry: str, kind: str, dtype: torch.dtype, bad: float
) -> None:
    def run(wild: float) -> nn.Module:
        net = make_net().to(dtype)
        recipe = replace(GEOMETRIES[geometry], masking=ProjectAndFreeze(at=0.25))
        base = BASES[kind](net.parameters())
        optimizer = mm.sparsify(base, net, sparsity=0.7, steps=8, method=recipe)
        for step in range(6):
            for parameter in net.parameters():
                parameter.grad = torch.full_like(parameter, 0.01 * step)
            if step == 3:
                net[0].weight.grad[~optimizer.masks()["0.weight"]] = wild
            optimizer.step()
        assert optimizer.finalize().zeros == 238
        return net

    for one, two in zip(run(bad).parameters(), run(1.0).parameters(), strict=True):
        assert torch.equal(one, two)
        assert not torch.signbit(one[one == 0]).any()  # zeros are +0, the same bytes everywhere


@dataclass(frozen=True, kw_only=True)
class CutAndRelease(Masking):
    """Cuts after step 3 and releases all weights after step 6, as alternating methods do."""

    def cut_after(self, step: int, steps: int, sparsity: float) -> float | None:
        return {3: sparsity, 6: 0.0}.get(step)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_released_weights_learn_again(make_net, train, geometry: str) -> None:
    net = make_net()
    recipe = replace(GEOMETRIES[geometry], masking=CutAndRelease())
    base = BASES["momentum"](net.parameters())
    optimizer = mm.sparsify(base, net, sparsity=0.7, steps=12, method=recipe)
    train(net, optimizer, range(4))
    cut = {name: ~mask for name, mask in optimizer.masks().items()}
    assert sum(int(mask.sum()) for mask in cut.values()) == 238
    train(net, optimizer, range(4, 12))
    assert all(mask.all() for mask in optimizer.masks().values())
    parameters = dict(net.named_parameters())
    moved = sum(int((parameters[name][mask] != 0).sum()) for name, mask in cut.items())
    assert moved > 100
    assert optimizer.finalize().zeros == 238


def test_masks_are_all_true_before_the_first_cut(make_net) -> None:
    net = make_net()
    base = torch.optim.SGD(net.parameters(), lr=0.05)
    masks = mm.sparsify(base, net, sparsity=0.9, steps=10).masks()
    assert {name: mask.shape for name, mask in masks.items()} == {
        "0.weight": (20, 12),
        "2.weight": (5, 20),
    }
    assert all(mask.all() for mask in masks.values())


def test_an_average_of_weights_is_cut_by_the_masks(make_net, train) -> None:
    net = make_net()
    optimizer = frozen(net, train, "momentum", "factors")
    averaged = torch.optim.swa_utils.AveragedModel(net)
    for step in range(5, 9):
        train(net, optimizer, [step])
        averaged.update_parameters(net)
    # All averaged nets were frozen to one mask, so the average has it too.
    for name, mask in optimizer.masks().items():
        assert not dict(averaged.module.named_parameters())[name][~mask].any()
