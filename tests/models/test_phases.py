"""Pretrained weights, and parameters that come or go between one run and the next."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mirrormask as mm

transformers = pytest.importorskip("transformers")


def build_bert() -> nn.Module:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return transformers.BertForMaskedLM(config)


def tokens(step: int) -> Tensor:
    return torch.randint(30, (8, 6), generator=torch.Generator().manual_seed(step))


def loss(net: nn.Module, step: int) -> Tensor:
    return net(input_ids=tokens(step), labels=tokens(step).roll(1, 1)).loss


def test_a_pretrained_model_is_the_start_and_its_tied_head_stays_dense(check, tmp_path) -> None:
    build_bert().save_pretrained(tmp_path)
    net = transformers.BertForMaskedLM.from_pretrained(tmp_path)
    head, embedding = net.get_output_embeddings(), net.get_input_embeddings()
    assert head.weight is embedding.weight
    report = check(net, loss)  # sees that the wrapped model computes what the given one does
    assert head.weight is embedding.weight
    assert not any("embedding" in t.name or "decoder" in t.name for t in report.tensors)
    net.save_pretrained(tmp_path / "sparse")
    again = transformers.BertForMaskedLM.from_pretrained(tmp_path / "sparse")
    named = dict(again.named_parameters())
    assert sum(int((named[t.name] == 0).sum()) for t in report.tensors) == report.zeros


class Adapted(nn.Module):
    """A frozen linear layer and a low-rank one beside it."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.lora_a = nn.Linear(layer.in_features, rank, bias=False)
        self.lora_b = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.lora_b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.lora_b(self.lora_a(x))


def mlp_loss(net: nn.Module, step: int) -> Tensor:
    x = torch.randn(16, 12, generator=torch.Generator().manual_seed(step))
    return F.mse_loss(net(x), x.roll(1, 1)[:, :5])


def run(net: nn.Module, steps: int, method: str, sparsity: float) -> mm.SparsityReport:
    trained = [p for p in net.parameters() if p.requires_grad]
    base = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
    optimizer = mm.sparsify(base, net, sparsity=sparsity, steps=steps, method=method)
    for step in range(steps):
        optimizer.zero_grad()
        mlp_loss(net, step).backward()
        optimizer.step()
    return optimizer.finalize()


def test_adapters_are_targets_on_a_sparse_base_that_stays_as_it_is(method: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 5))
    first = run(net, 40, method, 0.8)
    base = copy.deepcopy(net.state_dict())
    net[0], net[2] = Adapted(net[0], 4), Adapted(net[2], 4)
    net[0].layer.bias.requires_grad_(False)
    second = run(net, 40, method, 0.5)
    assert [t.name for t in second.tensors] == [
        "0.lora_a.weight",
        "0.lora_b.weight",
        "2.lora_a.weight",
        "2.lora_b.weight",
    ]
    assert second.zeros == second.asked_zeros
    # lora_b starts at zero and has to leave it.
    assert all(0 < t.zeros < t.weights for t in second.tensors if "lora_b" in t.name)
    for index in (0, 2):
        assert torch.equal(net[index].layer.weight, base[f"{index}.weight"])
    assert second.other_zeros == first.zeros
    # Taken out again: the model of the first run, and a third run starts from it.
    net[0], net[2] = net[0].layer, net[2].layer
    assert all(torch.equal(base[name], tensor) for name, tensor in net.state_dict().items())
    third = run(net.requires_grad_(True), 20, method, 0.9)
    assert third.zeros == third.asked_zeros > first.zeros


def test_adapters_beside_a_base_that_is_made_sparse_in_the_same_run(check) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(Adapted(nn.Linear(12, 20), 2), nn.ReLU(), nn.Linear(20, 5))
    report = check(net, mlp_loss, include=["*lora_*", "2.weight"])
    assert report.weights == 2 * 12 + 2 * 20 + 100
