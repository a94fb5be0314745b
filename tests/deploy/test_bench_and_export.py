"""Other runtimes: what they compute must be what the model computes."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from mirrormask.deploy import (
    BenchOptions,
    SparseEmbedding,
    SparseLinear,
    bench,
    compile,
    export_model,
)
from mirrormask.deploy.extras import optional
from mirrormask.errors import ArgumentError, MissingExtraError, OutputError


@pytest.fixture
def net(sparsify):
    return sparsify(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)), 0.9)


def test_every_runtime_that_is_here_agrees(net, tmp_path):
    pytest.importorskip("onnxruntime")
    x = torch.randn(1, 64)
    labels = net(torch.randn(40, 64, generator=torch.Generator().manual_seed(3))).argmax(dim=1)
    data = (torch.randn(40, 64, generator=torch.Generator().manual_seed(3)), labels)
    options = BenchOptions(
        batches=(1, 4), runtimes=("ONNX Runtime", "OpenVINO", "ONNX Runtime int8"), rounds=7
    )
    report = bench(net, x, data=data, options=options)
    for batch in (1, 4):
        for name in ("eager torch", "ONNX Runtime", "mirrormask"):
            row = report.row(name, batch=batch)
            assert row.output_error < 1e-5
            assert row.accuracy == 1.0
            assert row.milliseconds > 0
        int8 = report.row("ONNX Runtime int8", batch=batch)
        assert 0 < int8.output_error < 0.1
        assert int8.kind == "int8"
        dense = [row for row in report.rows if row.batch == batch and row.kind == "dense"]
        (best,) = {row.best_dense for row in report.rows if row.batch == batch}
        assert report.row(best, batch=batch).gain.median == 1.0
        assert max(row.gain.median for row in dense) <= 1.1
    assert report.missing["torch.compile"] == "not asked for"
    assert report.sparsity == pytest.approx(0.9, abs=0.02)
    report.save_json(tmp_path / "bench.json")
    assert json.loads((tmp_path / "bench.json").read_text())["rows"][0]["batch"] == 1
    report.save_picture(tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    for write in (report.save_json, report.save_picture):
        with pytest.raises(OutputError):
            write(tmp_path / "no" / "such.png")
    with pytest.raises(OutputError):
        report.save_picture(tmp_path / "bench.xyz")
    with pytest.raises(KeyError, match="batch 9"):
        report.row("mirrormask", batch=9)


def test_a_runtime_that_fails_is_reported_not_raised(sparsify):
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x):
            while float(x.abs().max()) > 1:
                x = x / 2
            return self.fc(x)

    report = bench(
        Loop(),
        torch.randn(1, 8),
        options=BenchOptions(batches=(2,), runtimes=("ONNX Runtime",), rounds=7),
    )
    assert "cannot be exported" in report.missing["ONNX Runtime"]
    assert {row.contender for row in report.rows} == {"eager torch", "mirrormask"}


def test_impossible_options_and_examples_are_named(net):
    for options in (
        {"batches": ()},
        {"batches": (0,)},
        {"threads": (-1,)},
        {"rounds": 2},
        {"runtimes": ("TensorRT",)},
    ):
        with pytest.raises(ArgumentError, match=next(iter(options))):
            BenchOptions(**options)
    quick = BenchOptions(batches=(1,), runtimes=(), rounds=7)
    with pytest.raises(ArgumentError, match="no batch"):
        bench(net, torch.tensor(1.0), options=quick)
    with pytest.raises(ArgumentError, match="fewer than a batch"):
        bench(
            net,
            torch.randn(1, 64),
            data=(torch.randn(3, 64), torch.zeros(3)),
            options=BenchOptions(batches=(4,), runtimes=(), rounds=7),
        )


def test_compiled_models_are_exported_dense_and_checked(net, tmp_path):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    x = torch.randn(1, 64)
    fast = nn.Sequential(
        *(SparseLinear.from_linear(m) if isinstance(m, nn.Linear) else m for m in net)
    )
    report = export_model(fast, x, tmp_path / "net.onnx")
    assert report.max_error < 1e-5
    assert report.packed_bytes < report.file_bytes / 2
    assert report.file_bytes == (tmp_path / "net.onnx").stat().st_size
    graph = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(graph)
    weights = [onnx.numpy_helper.to_array(entry) for entry in graph.graph.initializer]
    zeros = sum(int((w == 0).sum()) for w in weights if w.ndim == 2)
    assert zeros == sum(int((m.weight == 0).sum()) for m in net if isinstance(m, nn.Linear))
    assert isinstance(fast[0], SparseLinear)
    assert list(tmp_path.iterdir()) == [tmp_path / "net.onnx"]


def test_plain_torch_is_enough_for_pt2(net, tmp_path, sparsify):
    tokens = torch.randint(9, (2, 3))
    model = nn.Sequential(SparseEmbedding.from_embedding(sparsify(nn.Embedding(9, 64), 0.5)), net)
    report = export_model(model, (tokens,), tmp_path / "net.pt2")
    assert report.runtime == "torch.export"
    assert report.max_error == 0.0
    program = torch.export.load(tmp_path / "net.pt2")
    assert torch.allclose(program.module()(tokens), model(tokens), atol=1e-6)
    compiled = compile(net, torch.randn(1, 64))
    export_model(compiled, torch.randn(1, 64), tmp_path / "compiled.pt2")


def test_exports_that_cannot_be_are_named_and_leave_nothing(net, tmp_path):
    x = torch.randn(1, 64)
    with pytest.raises(ArgumentError, match="suffix"):
        export_model(net, x, tmp_path / "net.tflite")
    with pytest.raises(OutputError, match="existing folder"):
        export_model(net, x, tmp_path / "no" / "net.pt2")

    class Loop(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ArgumentError, match="cannot be exported"):
        export_model(Loop(), x, tmp_path / "net.pt2")
    assert list(tmp_path.iterdir()) == []


def test_missing_libraries_come_with_the_command_that_installs_them():
    with pytest.raises(MissingExtraError, match=r"pip install 'mirrormask\[deploy\]'"):
        optional("no_such_library", "this test")
