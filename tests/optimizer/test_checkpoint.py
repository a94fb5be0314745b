"""Resume is bit-identical; foreign and damaged checkpoints are refused with nothing changed."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import mirrormask as mm
from mirrormask.errors import CheckpointError
from mirrormask.geometry import Factors, Mirror
from mirrormask.masking import ProjectAndFreeze
from mirrormask.pressure import Algorithm1, Constant

STEPS = 16

BASES = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=0.0),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.5, centered=True),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2, weight_decay=0.0),
}


def on_disk(value: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def build(net: nn.Module, kind: str, recipe: mm.Recipe | str, **options: Any) -> mm.SparseOptimizer:
    wanted = {"sparsity": 0.8, "steps": STEPS} | options
    return mm.sparsify(BASES[kind](net.parameters()), net, method=recipe, **wanted)


def all_bytes(net: nn.Module, optimizer: mm.SparseOptimizer) -> bytes:
    buffer = io.BytesIO()
    torch.save((net.state_dict(), copy.deepcopy(optimizer.state_dict())), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("at", [0, 5, 8, 13])
def test_resume_is_bit_identical(make_net, train, recipe, kind: str, at: int) -> None:
    if kind == "adafactor" and recipe.geometry.moves_increments:
        pytest.skip("refused: it goes by the size of what it moves")
    net = make_net()
    optimizer = build(net, kind, recipe)
    train(net, optimizer, range(at))
    model, state = on_disk((net.state_dict(), optimizer.state_dict()))
    other = make_net()
    with torch.no_grad():
        for tensor in other.parameters():
            tensor.add_(1.0)  # whatever the fresh model holds
    other.load_state_dict(model)
    resumed = build(other, kind, recipe)
    resumed.load_state_dict(state)
    train(net, optimizer, range(at, STEPS))
    train(other, resumed, range(at, STEPS))
    assert resumed.budget == optimizer.budget
    assert all_bytes(net, optimizer) == all_bytes(other, resumed)
    assert optimizer.finalize() == resumed.finalize()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("order", ["model first", "optimizer first"])
def test_order_of_loading_does_not_matter(make_net, train, recipe, order: str) -> None:
    net = make_net()
    optimizer = build(net, "momentum", recipe)
    train(net, optimizer, range(9))
    model, state = on_disk((net.state_dict(), optimizer.state_dict()))
    other = make_net()
    resumed = build(other, "momentum", recipe)
    train(other, resumed, range(50, 53))  # a run of its own, to be forgotten
    loads: list[Callable] = [
        lambda: other.load_state_dict(model),
        lambda: resumed.load_state_dict(state),
    ]
    for load in loads if order == "model first" else reversed(loads):
        load()
    train(net, optimizer, range(9, STEPS))
    train(other, resumed, range(9, STEPS))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_feedback_under_way_and_observed_epochs_survive(make_net, train) -> None:
    for method in ("pilot", mm.Recipe(geometry=Factors(), pressure=Algorithm1(delta=2.0))):
        net = make_net()
        optimizer = build(net, "momentum", method)
        train(net, optimizer, range(3))
        optimizer.observe(0.5)
        model, state = on_disk((net.state_dict(), optimizer.state_dict()))
        other = make_net()
        other.load_state_dict(model)
        resumed = build(other, "momentum", method)
        resumed.load_state_dict(state)
        for run, its in ((net, optimizer), (other, resumed)):
            train(run, its, range(3, 6))
            its.observe(0.6)
            train(run, its, range(6, 9))
        assert optimizer.alpha == resumed.alpha
        assert optimizer.pressure_state == resumed.pressure_state
        assert all_bytes(net, optimizer) == all_bytes(other, resumed)


def test_learning_rates_of_the_groups_come_back(make_net) -> None:
    net = make_net()
    optimizer = build(net, "momentum", "pilot")
    optimizer.param_groups[0]["lr"] = 0.0123
    other = make_net()
    resumed = build(other, "momentum", "pilot")
    resumed.load_state_dict(on_disk(optimizer.state_dict()))
    assert resumed.base.param_groups[0]["lr"] == 0.0123
    assert resumed.param_groups is resumed.base.param_groups


RECIPE = mm.Recipe(
    geometry=Factors(), pressure=Constant(strength=1e-3), masking=ProjectAndFreeze(at=0.5)
)


def wider() -> nn.Sequential:
    return nn.Sequential(nn.Linear(12, 21), nn.ReLU(), nn.Linear(21, 5))


def without_bias() -> nn.Sequential:
    return nn.Sequential(nn.Linear(12, 20, bias=False), nn.ReLU(), nn.Linear(20, 5))


FOREIGN = {
    "sparsity=0.9, this run has 0.8": {"sparsity": 0.9},
    "steps=17, this run has 16": {"steps": 17},
    "method='gmp', this run has 'custom'": {"recipe": "gmp"},
    r"recipe=\"Recipe\(geometry=Mirror": {"recipe": mm.Recipe(geometry=Mirror())},
    "base='RMSprop', this run has 'SGD'": {"kind": "rmsprop"},
    r"parameters=\['0.weight', 'torch.float32', 21, 12\], this run has": {"net": wider},
    r"parameters=\[\['0.weight'": {"net": without_bias},
    r"parameters=\['\(dense\)', 'torch.float32', 5, 20\], this run has \['2.weight'": {
        "exclude": "2.weight"
    },
    r"parameters=\['0.weight', 'torch.bfloat16', 20, 12\], this run has": {"dtype": torch.bfloat16},
}


@pytest.mark.parametrize("message", FOREIGN)
def test_foreign_checkpoints(make_net, train, message: str) -> None:
    options = dict(FOREIGN[message])
    stranger = options.pop("net", make_net)().to(options.pop("dtype", torch.float32))
    kind, recipe = options.pop("kind", "momentum"), options.pop("recipe", RECIPE)
    state = on_disk(build(stranger, kind, recipe, **options).state_dict())
    refuse(make_net, train, state, f"was written with {message}.*resume with the settings of")


def refuse(make_net: Callable, train: Callable, state: object, message: str) -> None:
    net = make_net()
    optimizer = build(net, "momentum", RECIPE)
    train(net, optimizer, range(9))
    before = all_bytes(net, optimizer)
    with pytest.raises(CheckpointError, match=message):
        optimizer.load_state_dict(state)
    assert all_bytes(net, optimizer) == before
    train(net, optimizer, range(9, STEPS))
    assert optimizer.finalize().zeros == 272


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"state": {}, "param_groups": []},
        torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1).state_dict(),
        {"mirrormask": 3},
    ],
)
def test_no_checkpoint_at_all(make_net, train, state: object) -> None:
    refuse(make_net, train, state, "no checkpoint of a mirrormask optimizer: load what its own")


def test_another_format(make_net, train) -> None:
    refuse(make_net, train, {"mirrormask": {"format": 99}}, "has format 99, this version reads 3")


def lose(*path: Any) -> Callable[[dict], None]:
    def damage(state: dict) -> None:
        for key in path[:-1]:
            state = state[key]
        del state[path[-1]]

    return damage


def put(value: Any, *path: Any) -> Callable[[dict], None]:
    def damage(state: dict) -> None:
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = value

    return damage


DAMAGES = {
    "no state": lose("state"),
    "state of one tensor lost": lose("state", 2),
    "state of another": put({}, "state", 17),
    "state of no tensor": put(None, "state", 0),
    "latent lost": lose("state", 0, "m"),
    "latent of another shape": put(torch.ones(3, 3), "state", 0, "m"),
    "latent of another type": put(torch.ones(20, 12).double(), "state", 0, "w"),
    "latent no tensor": put("m", "state", 0, "m"),
    "mask lost": lose("state", 0, "cut"),
    "mask of another shape": put(torch.ones(3, 3, dtype=torch.bool), "state", 2, "cut"),
    "momentum lost": lose("state", 0, "m.momentum_buffer"),
    "momentum of another shape": put(torch.ones(4), "state", 0, "w.momentum_buffer"),
    "dense momentum of another shape": put(torch.ones(4), "state", 1, "momentum_buffer"),
    "no groups": lose("param_groups"),
    "one group too few": put([], "param_groups"),
    "no learning rate": lose("param_groups", 0, "lr"),
    "no steps done": lose("mirrormask", "steps_done"),
    "negative steps": put(-1, "mirrormask", "steps_done"),
    "too many steps": put(17, "mirrormask", "steps_done"),
    "steps no number": put("9", "mirrormask", "steps_done"),
    "no budget": put(None, "mirrormask", "budget"),
    "pressure no table": put(3, "mirrormask", "pressure"),
    "pressure no numbers": put({"a": "b"}, "mirrormask", "pressure"),
    "feedback no numbers": put(["x"], "mirrormask", "pending"),
    "feedback no list": put(3, "mirrormask", "pending"),
    "contents lost": lose("mirrormask", "contents"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_checkpoints(make_net, train, name: str) -> None:
    net = make_net()
    optimizer = build(net, "momentum", RECIPE)
    train(net, optimizer, range(10))
    state = on_disk(optimizer.state_dict())
    DAMAGES[name](state)
    refuse(make_net, train, state, r"The checkpoint is damaged \(.*\): resume from an older one")
