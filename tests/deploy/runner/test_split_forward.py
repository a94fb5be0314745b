"""A model in regions runs as such where it may, and layer by layer everywhere else."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mirrormask as mm
from mirrormask.deploy import export_model, save_program
from mirrormask.deploy.runner.attached import planned_of
from mirrormask.deploy.runner.split_forward import SplitForward
from mirrormask.deploy.runner.trial import with_regions
from mirrormask.errors import ArgumentError
from mirrormask.kernels import kernel_status

pytestmark = pytest.mark.skipif(not kernel_status().active, reason="no compiled kernels")


class Net(nn.Module):
    """A residual network with an activation that has no step."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.softplus(self.norm(self.stem(x)))
        x = F.softplus(x + self.two(torch.relu(self.one(x))))
        return self.head(x.mean((2, 3))).log_softmax(-1)


class Encoder(nn.Module):
    """Token embeddings, two layers of attention with a padding mask, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(50, 32), nn.Embedding(20, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu")
        self.layers, self.head = (
            nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
            nn.Linear(32, 3),
        )

    def forward(self, tokens: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        return self.head(self.layers(x, src_key_padding_mask=padding)[:, 0])


def sentences(count):
    padding = torch.zeros(count, 7, dtype=torch.bool)
    padding[::2, 5:] = True
    return torch.randint(0, 50, (count, 7)), padding


@pytest.fixture
def net(thin):
    return thin(Net(), 0.8).requires_grad_(False)


@pytest.fixture
def split(net):
    x = torch.randn(4, 3, 8, 8)
    return with_regions(net, net, (x,), part=2, slow=())


def ran(model, monkeypatch):
    """Return a list that grows with every run of the model's regions together."""
    graph = planned_of(model).split.graph
    calls, run = [], graph.forward
    monkeypatch.setattr(graph, "forward", lambda *a: (calls.append(1), run(*a))[1])
    return calls


def test_compile_chooses_regions_and_says_what_stayed(net, programs_win):
    x = torch.randn(4, 3, 8, 8)
    fast = mm.compile(net, x)
    report = fast.speed_report
    assert isinstance(planned_of(fast), SplitForward)
    assert "in 3 regions of" in report.verdict
    assert "not run as one program: the operators softplus, log_softmax" in report.notes
    assert "left to torch: 2 x softplus, 1 x log_softmax" in report.notes
    assert torch.allclose(fast(x), net(x), atol=1e-5)
    again = mm.compile(net, x, plan=type(report.plan).from_json(report.plan.to_json()))
    assert again.speed_report.plan == report.plan
    assert planned_of(again).part == report.plan.part
    assert report.compiled_bytes > 0 and report.max_error < 1e-4


def test_tokens_and_masks(thin, programs_win):
    net = thin(Encoder(), 0.8)
    fast = mm.compile(net, sentences(4))
    left = ", ".join(fast.speed_report.notes)
    assert "1 x embedding" in left and "2 x scaled_dot_product_attention" in left
    assert "linear" not in left
    for count in (4, 8):
        given = sentences(count)
        assert torch.allclose(fast(*given), net(*given), atol=1e-5)


def test_other_inputs_take_the_layers(net, split, monkeypatch):
    calls = ran(split, monkeypatch)
    x = torch.randn(4, 3, 8, 8)
    assert torch.allclose(split(x), net(x), atol=1e-5) and len(calls) == 1
    assert torch.allclose(split(x[:2]), net(x[:2]), atol=1e-5) and len(calls) == 2
    turned = x.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.allclose(split(turned), net(x), atol=1e-5) and len(calls) == 3
    more = torch.randn(10, 3, 8, 8)
    assert torch.allclose(split(more), net(more), atol=1e-5) and len(calls) == 4
    for other in (x[:3], torch.randn(4, 3, 9, 8), torch.randn(0, 3, 8, 8)):
        assert torch.allclose(split(other), net(other), atol=1e-5)
    assert torch.allclose(split(x=x), net(x), atol=1e-5)
    with pytest.raises(RuntimeError):
        split(x.double())
    split.train()
    split(x)
    assert len(calls) == 4


def test_gradients_reach_the_input(split, monkeypatch):
    calls = ran(split, monkeypatch)
    x = torch.randn(4, 3, 8, 8, requires_grad=True)
    split(x).sum().backward()
    assert x.grad is not None and not calls
    with torch.no_grad():
        split(x)
    assert calls


def test_a_loaded_state_is_used(net, split):
    x = torch.randn(4, 3, 8, 8)
    state = {name: tensor * 2 for name, tensor in split.state_dict().items()}
    assert set(state) == set(net.state_dict())
    split.load_state_dict(state)
    assert planned_of(split) is None
    net.load_state_dict(state)
    assert torch.allclose(split(x), net(x), atol=1e-5)


def test_copies_pickles_and_exports(net, split, tmp_path):
    x = torch.randn(4, 3, 8, 8)
    expected = split(x)
    for again in (copy.deepcopy(split), pickle.loads(pickle.dumps(split))):
        assert planned_of(again)._model is again
        assert torch.equal(again(x), expected)
        # Programs hold addresses: a copy must have its own.
        mine = planned_of(split).split.regions[0].program
        assert planned_of(again).split.regions[0].program is not mine
    exported = torch.export.export(split, (x,)).module()
    assert torch.allclose(exported(x), expected, atol=1e-5)
    assert export_model(split, x, tmp_path / "net.pt2").max_error < 1e-4


def test_copies_share_what_torch_reads_with_their_model(thin):
    net = thin(Encoder(), 0.8).requires_grad_(False)
    given = sentences(2)
    found = with_regions(net, net, given, part=1, slow=())
    for model in (found, copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        held = {id(tensor) for tensor in planned_of(model).split.graph.parameters()}
        assert id(model.tokens.weight) in held


def test_a_program_without_torch_names_what_has_no_step(net, split, tmp_path):
    x = torch.randn(4, 3, 8, 8)
    for model in (net, split):
        with pytest.raises(ArgumentError, match="operators softplus, log_softmax"):
            save_program(model, x, tmp_path / "net.program")


class Named(nn.Module):
    """A network that takes keywords and returns a mapping, as those of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(6, 8)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, object]:
        y = self.a(torch.sin(left)) - self.b(right)
        return {"last": torch.sin(y), "all": [y, left]}


def test_keywords_and_outputs_in_any_structure(thin, programs_win, monkeypatch):
    net = thin(Named(), 0.6).requires_grad_(False)
    # In another order than forward names them.
    given = {"right": torch.randn(4, 6), "left": torch.randn(4, 8)}
    fast = mm.compile(net, given)
    assert "not run as one program: keyword inputs" in fast.speed_report.notes
    for model in (fast, copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        calls = ran(model, monkeypatch)
        found, wanted = model(left=given["left"], right=given["right"]), net(**given)
        model(**given)
        assert set(found) == {"last", "all"} and len(calls) == 2
        assert torch.allclose(found["last"], wanted["last"], atol=1e-5)
        assert torch.allclose(found["all"][0], wanted["all"][0], atol=1e-5)
        assert torch.equal(found["all"][1], given["left"])
        # Other ways to call it take the layers.
        model(given["left"], given["right"]), model(given["left"], right=given["right"])
        assert len(calls) == 2
