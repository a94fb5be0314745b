from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from mirrormask.deploy import SparseEmbedding, SparseLinear, load_sparse, save
from mirrormask.errors import ArgumentError, CheckpointError


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(40, 32)
        self.norm = nn.BatchNorm1d(32)
        self.mix = nn.Linear(32, 64)
        self.plain = nn.Linear(64, 32)
        self.head = nn.Linear(32, 40, bias=False)
        self.last = nn.Linear(32, 40, bias=False)
        self.last.weight = self.head.weight

    def forward(self, tokens):
        x = self.norm(self.embed(tokens))
        x = self.plain(torch.relu(self.mix(x)))
        return self.head(x) + self.last(x)


@pytest.fixture
def net(sparsify):
    model = sparsify(Net(), 0.9).eval()
    nn.init.normal_(model.plain.weight)
    return model


@pytest.mark.parametrize("values", ["exact", "fp16", "int8"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_layers_go_straight_from_the_file_into_csr(net, tmp_path, values, device):
    save(net, tmp_path / "a", values=values)
    with torch.device(device):
        empty = Net()
    found = load_sparse(tmp_path / "a", empty)
    assert isinstance(found.embed, SparseEmbedding)
    assert isinstance(found.mix, SparseLinear)
    assert isinstance(found.plain, nn.Linear)
    assert found.head.weight is found.last.weight
    assert not found.training
    tokens = torch.randint(40, (7,))
    tolerance = {"exact": 1e-4, "fp16": 0.05, "int8": 2.0}[values]
    assert torch.allclose(found(tokens), net(tokens), atol=tolerance)


def test_a_high_threshold_keeps_everything_dense(net, tmp_path):
    save(net, tmp_path / "a")
    found = load_sparse(tmp_path / "a", Net(), min_sparsity=0.99)
    assert not any(isinstance(module, SparseLinear) for module in found.modules())
    tokens = torch.randint(40, (7,))
    assert torch.equal(found(tokens), net(tokens))


def test_what_does_not_fit_is_refused(net, tmp_path):
    save(net, tmp_path / "a")
    with pytest.raises(ArgumentError, match="min_sparsity"):
        load_sparse(tmp_path / "a", Net(), min_sparsity=2)
    with pytest.raises(CheckpointError, match="another model"):
        load_sparse(tmp_path / "a", nn.Linear(3, 3))
    with pytest.raises(CheckpointError, match="float64"):
        load_sparse(tmp_path / "a", Net().double())
    with torch.device("meta"):
        odd = Net()
    odd.register_buffer("extra", torch.ones(2, device="meta"), persistent=False)
    with pytest.raises(ArgumentError, match="extra"):
        load_sparse(tmp_path / "a", odd)
    raw = bytearray((tmp_path / "a").read_bytes())
    raw[-3] ^= 1
    (tmp_path / "a").write_bytes(raw)
    with pytest.raises(CheckpointError, match="checksum"):
        load_sparse(tmp_path / "a", Net())


def test_memory_stays_far_below_the_dense_weights(tmp_path, sparsify):
    """Resident bytes added in a fresh process, and their peak, for 32 MiB of weights at 95 %."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc to see resident memory")
    model = sparsify(nn.Sequential(nn.Linear(1024, 4096), nn.Linear(4096, 1024)), 0.95)
    save(model, tmp_path / "a")
    script = textwrap.dedent("""
        import sys, torch
        from torch import nn
        from mirrormask.deploy import load_sparse, save
        def field(name):
            lines = open("/proc/self/status").read().splitlines()
            return next(int(l.split()[1]) for l in lines if l.startswith(name)) * 1024
        # Everything that is loaded lazily is loaded before the count starts.
        small = nn.Sequential(nn.Linear(64, 64))
        with torch.no_grad():
            small[0].weight[:, 3:] = 0
        save(small, sys.argv[1] + "small")
        load_sparse(sys.argv[1] + "small", small)
        with torch.device("meta"):
            net = nn.Sequential(nn.Linear(1024, 4096), nn.Linear(4096, 1024))
        open("/proc/self/clear_refs", "w").write("5")
        before = field("VmRSS")
        net = load_sparse(sys.argv[1] + "a", net)
        print(field("VmRSS") - before, field("VmHWM") - before)
    """)
    result = subprocess.run(
        [sys.executable, "-c", script, f"{tmp_path}/"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    added, peak = map(int, result.stdout.split())
    dense = 2 * 1024 * 4096 * 4
    assert added < dense / 6
    assert peak < 1.3 * dense / 6
