"""The contract of every registered method, over three kinds of nets and two base optimizers."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mirrormask as mm
from mirrormask.errors import ArgumentError

STEPS, HALF = 8, 5


class Transformer(nn.Module):
    """One attention block between an embedding and the head that is tied to it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(17, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 17, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Return scores of the next token."""
        return self.head(self.block(self.embedding(tokens)))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 5))


def conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 4),
    )


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "mlp": (mlp, (10, 12), 5),
    "conv": (conv, (10, 1, 6, 6), 4),
    "transformer": (Transformer, (4, 6), 17),
}

BASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.0),
}


def build(net: str) -> nn.Module:
    torch.manual_seed(0)
    return NETS[net][0]()


def inputs(net: str, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    shape = NETS[net][1]
    if net == "transformer":
        return torch.randint(0, 17, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def train(
    net: str, model: Callable, optimizer: torch.optim.Optimizer, steps: Iterable[int]
) -> list[float]:
    losses = []
    for step in steps:
        batch = inputs(net, step % 2)
        scores = model(batch).flatten(0, -2)
        labels = (torch.arange(len(scores)) * 7 + step % 2) % NETS[net][2]
        loss = F.cross_entropy(scores, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def wrap(net: nn.Module, base: str, method: str) -> mm.SparseOptimizer:
    optimizer = BASES[base](net.parameters())
    return mm.sparsify(optimizer, net, sparsity=target(method), steps=STEPS, method=method, seed=0)


def target(method: str) -> float:
    return (*mm.METHODS[method].sparsities, 0.9)[0]


def finish(net: str, optimizer: mm.SparseOptimizer) -> mm.SparsityReport:
    return optimizer.finalize([inputs(net, 0), inputs(net, 1)])


def same(one: nn.Module, two: nn.Module) -> bool:
    return all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    )


REFUSED = {("gmp-2to4", "conv")}  # an image of one channel is no multiple of four

every_method_and_net = pytest.mark.parametrize(
    ("method", "net"), [(m, n) for m in mm.METHODS for n in NETS if (m, n) not in REFUSED]
)
every_net = pytest.mark.parametrize("net", NETS)
every_base = pytest.mark.parametrize("base", BASES)


@every_method_and_net
@every_base
def test_trains_and_hits_the_exact_target(method: str, net: str, base: str) -> None:
    model = build(net)
    start = copy.deepcopy(model)
    optimizer = wrap(model, base, method)
    losses = train(net, model, optimizer, range(STEPS))
    if not any(optimizer.recipe.masking.cut_after(s, STEPS, 0.9) for s in range(STEPS)):
        assert losses[-1] < losses[1]
    assert all(torch.isfinite(p).all() for p in model.parameters())
    report = finish(net, optimizer)
    assert report.zeros == report.asked_zeros
    assert abs(report.zeros - target(method) * report.weights) <= 0.5
    assert report.zeros == sum(
        int((dict(model.named_parameters())[t.name] == 0).sum()) for t in report.tensors
    )
    assert list(model.state_dict()) == list(start.state_dict())
    assert not same(model, start)
    if net == "transformer":
        assert model.head.weight is model.embedding.weight
        assert "embedding.weight" not in {tensor.name for tensor in report.tensors}


@every_method_and_net
@every_base
def test_resumes_bit_for_bit(method: str, net: str, base: str) -> None:
    model = build(net)
    optimizer = wrap(model, base, method)
    train(net, model, optimizer, range(HALF))
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    other = build(net)
    other.load_state_dict(weights)
    resumed = wrap(other, base, method)
    resumed.load_state_dict(state)
    train(net, model, optimizer, range(HALF, STEPS))
    train(net, other, resumed, range(HALF, STEPS))
    assert same(model, other)
    assert finish(net, optimizer) == finish(net, resumed)
    assert same(model, other)


@every_method_and_net
@every_base
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_and_pickles(method: str, net: str, base: str, how: str) -> None:
    model = build(net)
    optimizer = wrap(model, base, method)
    train(net, model, optimizer, range(HALF))
    pair = (model, optimizer)
    other, its = copy.deepcopy(pair) if how == "deepcopy" else pickle.loads(pickle.dumps(pair))
    train(net, other, its, range(HALF, STEPS))
    assert not same(model, other)
    train(net, model, optimizer, range(HALF, STEPS))
    assert same(model, other)
    assert finish(net, optimizer) == finish(net, its)
    assert same(model, other)


@every_method_and_net
def test_the_finished_model_exports(method: str, net: str) -> None:
    model = build(net)
    optimizer = wrap(model, "sgd", method)
    train(net, model, optimizer, range(STEPS))
    finish(net, optimizer)
    model.eval()
    example = inputs(net, 3)
    # Older torch traces by dynamo, which counts how often it met other networks of this class.
    torch._dynamo.reset()
    exported = torch.export.export(model, (example,))
    assert set(exported.state_dict) == set(model.state_dict())
    torch.testing.assert_close(exported.module()(example), model(example), rtol=1e-6, atol=1e-6)


@every_net
def test_a_compiled_model_trains_with_every_method(net: str) -> None:
    # Compiled once a net: the methods live in the optimizer, and reuse the graph.
    compiled_model = build(net)
    torch._dynamo.reset()
    compiled = torch.compile(compiled_model, backend="aot_eager")
    start = copy.deepcopy(compiled_model.state_dict())
    for method in mm.METHODS:
        if (method, net) in REFUSED:
            continue
        model = build(net)
        plain = wrap(model, "sgd", method)
        train(net, model, plain, range(STEPS))
        compiled_model.load_state_dict(start)
        optimizer = wrap(compiled_model, "sgd", method)
        train(net, compiled, optimizer, range(STEPS))
        assert finish(net, optimizer).zeros == finish(net, plain).zeros
        for one, two in zip(model.parameters(), compiled_model.parameters(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("method", "net"), sorted(REFUSED))
def test_what_is_refused_is_refused_early_and_listed(method: str, net: str) -> None:
    model = build(net)
    with pytest.raises(ArgumentError, match="leave it out with exclude="):
        wrap(model, "sgd", method)
    assert same(model, build(net))
    assert mm.METHODS[method].refuses


@pytest.mark.parametrize("method", [m for m in mm.METHODS if mm.METHODS[m].sparsities])
def test_other_targets_than_the_only_ones_are_refused(method: str) -> None:
    model = build("mlp")
    with pytest.raises(ArgumentError, match=r"sparsity=0\.9 is not that of"):
        mm.sparsify(BASES["sgd"](model.parameters()), model, sparsity=0.9, steps=9, method=method)
    assert same(model, build("mlp"))
    assert mm.METHODS[method].refuses
