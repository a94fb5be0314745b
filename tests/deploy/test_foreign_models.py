"""Models that were made sparse elsewhere are packed, loaded, compiled and checked."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from mirrormask.deploy import SparseLinear, compile, load, load_sparse, save, speed_report


def check_everything(model, example, path, call):
    """Pack, load into the same and into a sparse model, compile; outputs must not change."""
    model.eval()
    with torch.inference_mode():
        expected = call(model)
    report = save(model, path, signed_zeros="drop")
    state = load(path)
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    blank = copy.deepcopy(model)
    for parameter in blank.parameters():
        nn.init.ones_(parameter)
    with torch.inference_mode():
        assert torch.equal(call(load(path, blank)), expected)
        assert torch.allclose(call(load_sparse(path, blank)), expected, atol=1e-4)
        fast = compile(model, example)
        assert torch.allclose(call(fast), expected, atol=1e-3)
    return report, speed_report(fast)


def test_pruned_by_torch_and_made_permanent(tmp_path):
    model = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512))
    for layer in (model[0], model[2]):
        prune.l1_unstructured(layer, "weight", amount=0.99)
        prune.remove(layer, "weight")
    # Torch multiplies by the mask, which leaves negative zeros behind.
    assert bool((torch.signbit(model[0].weight) & (model[0].weight == 0)).any())
    x = torch.randn(1, 512)
    report, speed = check_everything(model, x, tmp_path / "a", lambda net: net(x))
    assert report.ratio > 60
    assert [round(layer.sparsity, 2) for layer in speed.layers] == [0.99, 0.99]
    for layer in (model[0], model[2]):
        sparse = SparseLinear.from_linear(layer)
        assert sparse.nonzeros == int(torch.count_nonzero(layer.weight))
        assert torch.allclose(sparse(layer.weight[:3]), layer(layer.weight[:3]), atol=1e-5)


def test_structured_pruning_by_torch(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU())
    prune.ln_structured(model[0], "weight", amount=0.5, n=2, dim=0)
    prune.remove(model[0], "weight")
    x = torch.randn(1, 3, 20, 20)
    _, speed = check_everything(model, x, tmp_path / "a", lambda net: net(x))
    assert any("dead channels" in note for note in speed.notes)


def test_a_raw_state_dict_with_zeros(tmp_path, sparsify):
    state = sparsify(nn.LSTM(64, 64), 0.9).state_dict()
    report = save(dict(state), tmp_path / "a")
    assert report.ratio > 5
    other = nn.LSTM(64, 64)
    other.load_state_dict(load(tmp_path / "a"))
    assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in state.items())


def test_a_bert_size_encoder(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=1024,
        vocab_size=1000,
    )
    model = transformers.BertModel(config)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight[torch.rand_like(module.weight) < 0.95] = 0.0
    tokens = torch.randint(1000, (1, 8))
    report, speed = check_everything(
        model,
        {"input_ids": tokens},
        tmp_path / "a",
        lambda net: net(input_ids=tokens).last_hidden_state,
    )
    assert report.ratio > 3
    assert len(speed.layers) == 13
