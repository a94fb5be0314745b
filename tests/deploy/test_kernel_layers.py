"""Sparse layers with the compiled kernels, and without them."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from rich.console import Console
from torch import nn

from mirrormask.cli import run
from mirrormask.deploy import CompileOptions, Plan, SparseConv2d, SparseLinear, compile
from mirrormask.deploy.doctor import diagnose, findings_table
from mirrormask.deploy.kernel_conv import ConvKernel
from mirrormask.deploy.kernel_linear import LinearKernel
from mirrormask.deploy.layouts import fuse_relus, link_layouts
from mirrormask.errors import ArgumentError
from mirrormask.kernels import kernel_status, kernels, library

needs_kernels = pytest.mark.skipif(kernels() is None, reason=kernel_status().reason)


@pytest.fixture
def without_kernels(monkeypatch):
    monkeypatch.setenv(library.ENVIRONMENT, "off")
    library._load.cache_clear()
    yield
    monkeypatch.undo()
    library._load.cache_clear()


@pytest.fixture
def linear(sparsify):
    return sparsify(nn.Linear(70, 50), 0.8)


@pytest.fixture
def conv(sparsify):
    return sparsify(nn.Conv2d(6, 12, 3, padding=1, stride=2, groups=2), 0.6)


@needs_kernels
def test_float32_runs_in_the_kernels_and_float64_in_torch(linear, conv):
    layer, image = SparseLinear.from_linear(linear), SparseConv2d.from_conv(conv)
    assert isinstance(layer.made(), LinearKernel)
    assert isinstance(image.made(), ConvKernel)
    layer.double(), image.double()
    assert not isinstance(layer.made(), LinearKernel)
    assert not isinstance(image.made(), ConvKernel)
    x, y = torch.randn(3, 70).double(), torch.randn(2, 6, 9, 9).double()
    assert torch.allclose(layer(x), copy.deepcopy(linear).double()(x))
    assert torch.allclose(image(y), copy.deepcopy(conv).double()(y))


def test_without_kernels_torch_takes_their_place(linear, conv, without_kernels):
    layer, image = SparseLinear.from_linear(linear), SparseConv2d.from_conv(conv)
    assert not isinstance(layer.made(), LinearKernel)
    x, y = torch.randn(9, 70), torch.randn(2, 6, 9, 9)
    for relu in (False, True):
        for module in (layer, image):
            module.relu = relu
        expected = (linear(x), conv(y))
        found = (layer(x), image(y))
        for left, right in zip(found, expected, strict=True):
            assert torch.allclose(left, right.relu() if relu else right, atol=1e-5)
    plan = Plan(choices={"0": "kernel"}, rewrite=False)
    with pytest.raises(ArgumentError, match="cannot have"):
        compile(nn.Sequential(linear), x, plan=plan)
    options = CompileOptions(layer_rounds=7, net_rounds=7)
    report = compile(nn.Sequential(linear), x, options=options).speed_report
    assert report.layers[0].choice in ("dense", "csr")
    assert "without compiled kernels: switched off by MIRRORMASK_KERNELS" in report.notes


@needs_kernels
def test_inputs_in_every_layout_and_of_changing_size(linear, conv):
    layer, image = SparseLinear.from_linear(linear), SparseConv2d.from_conv(conv)
    wide = torch.randn(40, 140)
    for x in (wide[:, ::2], wide[:, 5:75], torch.randn(70, 16).t(), torch.randn(70, 33).t()):
        assert torch.allclose(layer(x), linear(x), atol=1e-5)
    tall = torch.randn(2, 6, 30, 40)
    for y in (tall, tall[:, :, 3:11], tall[..., ::2], tall.to(memory_format=torch.channels_last)):
        assert torch.allclose(image(y), conv(y), atol=1e-5)
    sizes = [torch.randn(1 + i % 3, 6, 5 + i, 20 - i) for i in range(9)]
    for y in sizes + sizes[:2]:
        assert torch.allclose(image(y), conv(y), atol=1e-5)
    assert len(image.made()._plans) <= 4


@needs_kernels
def test_results_do_not_depend_on_threads_or_on_earlier_calls(linear):
    layer = SparseLinear.from_linear(linear)
    x = torch.randn(3000, 70)
    once = layer(x)
    torch.set_num_threads(2)
    assert torch.equal(layer(x), once)
    torch.set_num_threads(1)
    layer(torch.full((300, 70), float("nan")))
    assert torch.allclose(layer(x[:33]), once[:33], atol=1e-6)


@needs_kernels
@pytest.mark.parametrize(("width", "least"), [(300, 1000), (700, 33), (1100, 3)])
def test_batches_that_would_miss_the_cache_meet_the_weights_in_blocks(sparsify, width, least):
    dense = sparsify(nn.Linear(width, 300), 0.8)
    layer = SparseLinear.from_linear(dense)
    for batch in (1, 2, 3, 8, 16, 32, 33, 64, 100, 200):
        x = torch.randn(batch, width)
        assert torch.allclose(layer(x), dense(x), atol=1e-4)
        assert (layer.made()._blocks is not None) == (batch >= least)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x), layer(x))
    thin = SparseLinear.from_linear(sparsify(nn.Linear(width, 300), 0.99))
    thin(x)
    assert thin.made()._blocks is None


@needs_kernels
def test_a_replaced_bias_is_seen(linear):
    layer = SparseLinear.from_linear(linear)
    x = torch.randn(2, 70)
    before = layer(x)
    layer.bias = layer.bias + 1
    assert torch.allclose(layer(x), before + 1, atol=1e-5)


@needs_kernels
@pytest.mark.parametrize("wrong", ["double", "meta"])
def test_inputs_of_another_kind_are_named(linear, conv, wrong):
    change = {"double": lambda x: x.double(), "meta": lambda x: x.to("meta")}[wrong]
    with pytest.raises(ArgumentError, match="float32 on the CPU"):
        SparseLinear.from_linear(linear)(change(torch.randn(3, 70)))
    with pytest.raises(ArgumentError, match="float32 on the CPU"):
        SparseConv2d.from_conv(conv)(change(torch.randn(1, 6, 9, 9)))


@needs_kernels
def test_operators_refuse_arrays_that_would_read_astray(linear, conv):
    layer, image = SparseLinear.from_linear(linear), SparseConv2d.from_conv(conv)
    x, y = torch.randn(4, 70), torch.randn(1, 6, 9, 9)
    good = [layer.row_starts, layer.columns, layer.values, layer.bias]
    assert torch.equal(torch.ops.mirrormask.sparse_linear(x, *good), layer(x))
    for index, bad in (
        (0, layer.row_starts + 1),
        (0, layer.row_starts[:-1]),
        (1, layer.columns + 60),
        (1, layer.columns.long()),
        (1, layer.columns[:-1]),
        (2, layer.values[:-1]),
        (3, layer.bias[:-1]),
    ):
        arguments = [bad if place == index else item for place, item in enumerate(good)]
        with pytest.raises(ArgumentError, match="no sparse matrix"):
            torch.ops.mirrormask.sparse_linear(x, *arguments)
    rest = {
        "form": "kernel",
        "sizes": image.geometry.numbers(),
        "padding_mode": "zeros",
    }
    arrays = (image.row_starts, image.columns + 40, image.values, image.bias)
    with pytest.raises(ArgumentError, match="no sparse matrix"):
        torch.ops.mirrormask.sparse_conv2d(y, *arrays, **rest)
    with pytest.raises(ArgumentError, match="12 rows"):
        torch.ops.mirrormask.sparse_conv2d(y, image.row_starts[1:], *arrays[1:], **rest)


def test_a_relu_that_alone_reads_a_sparse_layer_moves_into_it(linear, conv):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = SparseLinear.from_linear(linear), nn.ReLU()
            self.third = SparseLinear.from_linear(nn.Linear(50, 9))
            self.twice = nn.ReLU()

        def forward(self, x):
            y = self.third(self.second(self.first(x)))
            return self.twice(y) + self.twice(-y)

    net = Net().eval()
    x = torch.randn(16, 70)
    expected = net(x)
    assert fuse_relus(net) == 1
    assert net.first.relu
    assert not net.third.relu
    assert link_layouts(net) == 1
    assert torch.allclose(net(x), expected, atol=1e-6)
    images = nn.Sequential(SparseConv2d.from_conv(conv), nn.Identity(), nn.ReLU())
    y = torch.randn(1, 6, 9, 9)
    expected = images(y)
    assert fuse_relus(images) == 1
    assert torch.equal(images(y), expected)
    exported = torch.export.export(images, (y,)).module()
    assert torch.allclose(exported(y), expected, atol=1e-6)


def test_the_doctor_tells_what_is_active_and_why(capsys, without_kernels):
    findings = {finding.what: finding for finding in diagnose()}
    assert findings["kernels"].state == "off"
    assert "MIRRORMASK_KERNELS" in findings["kernels"].meaning
    console = Console(record=True, width=160, file=io.StringIO())
    console.print(findings_table(diagnose()))
    assert "switched off" in console.export_text()
    assert run(["doctor"]) == 0
    assert "compiler" in capsys.readouterr().out


def test_the_doctor_says_why_it_cannot_build(capsys, monkeypatch):
    monkeypatch.setenv("CC", "/nonexistent/cc")
    assert run(["doctor", "--build"]) == 2
    assert "not compiled: no C compiler: /nonexistent/cc" in capsys.readouterr().err
