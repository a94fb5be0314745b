"""Every byte that an optimizer keeps, counted from all that can be reached from it."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor, nn

import mirrormask as mm
from mirrormask.geometry import Factors, Mirror
from mirrormask.masking import ProjectAndFreeze
from mirrormask.pressure import Constant, SeekTarget

WEIGHTS = 12 * 20 + 20 * 5


def reachable_bytes(root: object, net: nn.Module) -> int:
    """Bytes of all tensor storages that hang on ``root``, beyond the model and its gradients."""
    ignored = {t.untyped_storage().data_ptr() for t in net.parameters()}
    ignored |= {t.grad.untyped_storage().data_ptr() for t in net.parameters() if t.grad is not None}
    storages: dict[int, int] = {}
    seen: set[int] = set()
    queue = [root]
    while queue:
        value = queue.pop()
        if id(value) in seen or isinstance(value, type | nn.Module) or callable(value):
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            if storage.data_ptr() not in ignored:
                storages[storage.data_ptr()] = storage.nbytes()
            queue += [value.grad] if value.grad is not None else []
        else:
            queue += [v for v in gc.get_referents(value) if not isinstance(v, str | int | float)]
    return sum(storages.values())


def trained(
    net: nn.Module, train, recipe: mm.Recipe | None, steps: int, build=torch.optim.SGD
) -> torch.optim.Optimizer:
    options = {"lr": 0.05, "momentum": 0.9} if build is torch.optim.SGD else {"lr": 1e-3}
    optimizer = build(net.parameters(), **options)
    if recipe is not None:
        optimizer = mm.sparsify(optimizer, net, sparsity=0.8, steps=20, method=recipe)
    train(net, optimizer, range(steps))
    return optimizer


PRESSURES = [Constant(strength=1e-3), SeekTarget()]


@pytest.mark.parametrize("pressure", PRESSURES)
@pytest.mark.parametrize("noise", ["ignore", "second-moment"])
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_mirror_keeps_what_sgd_with_momentum_keeps(
    make_net, train, pressure: object, noise: str, steps: int
) -> None:
    net, plain = make_net(), make_net()
    sgd = trained(plain, train, None, steps)
    recipe = mm.Recipe(geometry=Mirror(noise=noise), pressure=pressure)
    optimizer = trained(net, train, recipe, steps)
    momentum = reachable_bytes(sgd, plain)
    assert momentum == (0 if steps == 0 else 4 * (WEIGHTS + 25))
    extra = reachable_bytes(optimizer, net) - momentum
    # One 0-d scale a tensor, and a measurement of a few numbers on its way to the host.
    assert 0 <= extra <= 4 * 2 + 4 * 8


def test_mirror_keeps_only_a_mask_of_one_byte_more_once_frozen(make_net, train) -> None:
    net, plain = make_net(), make_net()
    sgd = trained(plain, train, None, 15)
    recipe = mm.Recipe(geometry=Mirror(), masking=ProjectAndFreeze(at=0.5))
    optimizer = trained(net, train, recipe, 15)
    extra = reachable_bytes(optimizer, net) - reachable_bytes(sgd, plain)
    assert extra == 4 * 2 + WEIGHTS


def test_factors_cost_two_copies_and_a_second_momentum(make_net, train) -> None:
    net, plain = make_net(), make_net()
    sgd = trained(plain, train, None, 5)
    optimizer = trained(net, train, mm.Recipe(geometry=Factors()), 5)
    extra = reachable_bytes(optimizer, net) - reachable_bytes(sgd, plain)
    assert extra == 4 * WEIGHTS * 3


def test_dense_methods_cost_nothing_before_a_cut(make_net, train) -> None:
    net, plain = make_net(), make_net()
    adam = trained(plain, train, None, 5, torch.optim.Adam)
    optimizer = trained(net, train, mm.Recipe(), 5, torch.optim.Adam)
    assert reachable_bytes(optimizer, net) == reachable_bytes(adam, plain)


def test_finalize_gives_the_latents_back(make_net, train, recipe) -> None:
    net, plain = make_net(), make_net()
    trained(plain, train, None, 20)
    optimizer = trained(net, train, recipe, 20)
    optimizer.finalize()
    held = reachable_bytes(optimizer, net)
    # The masks, and momentum of the biases; of a dense weight stepped as itself, also its own.
    assert held <= WEIGHTS + 4 * 25 + 64


# Bytes a weight beyond the plain optimizer's own, as the documentation states them.
STATED = {
    ("sgd", "mirror"): 0,
    ("adamw", "mirror"): 0,
    ("sgd", "factors"): 12,
    ("adamw", "factors"): 16,
    ("sgd", "pilot"): 0,
    ("adamw", "pilot"): 0,
}
UNTIL_THE_LAST_CUT = {"pilot": 4}


@pytest.mark.parametrize(("base", "geometry"), STATED)
@pytest.mark.parametrize("fused", ["fused", "not fused"])
def test_bytes_a_weight_are_those_stated(
    make_net, train, base: str, geometry: str, fused: str
) -> None:
    def build(parameters) -> torch.optim.Optimizer:
        options = {"fused": fused == "fused"}
        if base == "sgd":
            return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, **options)
        return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0, **options)

    def kept(recipe: mm.Recipe | None, steps: int) -> int:
        net = make_net()
        optimizer = build(net.parameters())
        if recipe is not None:
            optimizer = mm.sparsify(optimizer, net, sparsity=0.8, steps=20, method=recipe)
        train(net, optimizer, range(steps))
        return reachable_bytes(optimizer, net)

    recipes = {
        "mirror": mm.Recipe(geometry=Mirror(), masking=ProjectAndFreeze(at=0.5)),
        "factors": mm.Recipe(geometry=Factors(), masking=ProjectAndFreeze(at=0.5)),
        "pilot": mm.METHODS["pilot"].recipe,
    }
    recipe = recipes[geometry]
    extra = STATED[base, geometry] * WEIGHTS
    # Scales, their units and step counts of two tensors, and a measurement.
    small = 2 * 4 + 2 * 4 + 2 * 4 + 4 * 8
    early = UNTIL_THE_LAST_CUT.get(geometry, 0) * WEIGHTS
    mask = WEIGHTS if geometry == "pilot" else 0  # gradual cuts begin early
    assert 0 <= kept(recipe, 5) - kept(None, 5) - extra - early - mask <= small
    assert 0 <= kept(recipe, 15) - kept(None, 15) - extra - WEIGHTS <= small  # the mask
