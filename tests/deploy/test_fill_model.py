"""A packed file fills the model that was saved, or changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mirrormask.deploy import load, save
from mirrormask.errors import ArgumentError, CheckpointError


def test_a_model_is_filled_in_place(tmp_path, sparsify):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(50, 20)
            self.norm = nn.BatchNorm1d(20)
            self.head = nn.Linear(20, 50, bias=False)
            self.head.weight = self.embed.weight

    model, other = sparsify(Tied(), 0.9), Tied()
    save(model, tmp_path / "a")
    before = other.embed.weight
    assert load(tmp_path / "a", other) is other
    assert other.embed.weight is before is other.head.weight
    for left, right in zip(other.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(left, right)


def test_a_file_of_another_model_changes_nothing(tmp_path):
    save(nn.Linear(3, 2), tmp_path / "a")
    save({"weight": torch.ones(2, 3), "bias": torch.ones(2, dtype=torch.float64)}, tmp_path / "b")
    for model, path in (
        (nn.Linear(3, 4), "a"),
        (nn.Linear(3, 2, bias=False), "a"),
        (nn.Sequential(nn.Linear(3, 2)), "a"),
        (nn.Linear(3, 2), "b"),
    ):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(CheckpointError, match="build the model that was saved"):
            load(tmp_path / path, model)
        assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    with pytest.raises(ArgumentError, match="to_empty"):
        load(tmp_path / "a", nn.Linear(3, 2, device="meta"))


def test_values_that_a_tie_would_overwrite_are_refused(tmp_path):
    class Pair(nn.Module):
        def __init__(self, tied):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            if tied:
                self.b.weight = self.a.weight

    save(Pair(tied=False), tmp_path / "apart")
    with pytest.raises(CheckpointError, match="ties"):
        load(tmp_path / "apart", Pair(tied=True))
    save(Pair(tied=True), tmp_path / "tied")
    apart = load(tmp_path / "tied", Pair(tied=False))
    assert torch.equal(apart.a.weight, apart.b.weight)


def test_a_model_is_untouched_by_a_damaged_file(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(40, 40), torch.nn.Linear(40, 40))
    path = tmp_path / "a"
    save(model, path)
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)
    other = torch.nn.Sequential(torch.nn.Linear(40, 40), torch.nn.Linear(40, 40))
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(CheckpointError, match="checksum"):
        load(path, other)
    assert all(torch.equal(before[name], t) for name, t in other.state_dict().items())
