"""Sparse layers with the compiled kernels, and without them."""

from __future__ import annotations

import copy
import gc
import io
import threading

import pytest
import torch
from rich.console import Console
from torch import nn

from mirrormask.cli import run
from mirrormask.deploy import (
    CompileOptions,
    Plan,
    SparseConv2d,
    SparseEmbedding,
    SparseLinear,
    compile,
    made,
)
from mirrormask.deploy.doctor import diagnose, findings_table
from mirrormask.deploy.kernel_conv import ConvKernel
from mirrormask.deploy.kernel_linear import LinearKernel
from mirrormask.deploy.layouts import fuse_relus, link_layouts
from mirrormask.errors import ArgumentError
from mirrormask.kernels import kernel_status, kernels

needs_kernels = pytest.mark.skipif(kernels() is None, reason=kernel_status().reason)


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
    planned = compile(nn.Sequential(linear), x, plan=plan)
    assert torch.allclose(planned(x), linear(x), atol=1e-5)
    assert any("torch takes their place" in note for note in planned.speed_report.notes)
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
    assert len(image.made().plans) <= 4


@needs_kernels
def test_results_do_not_depend_on_threads_or_on_earlier_calls(linear):
    layer = SparseLinear.from_linear(linear)
    x = torch.randn(3000, 70)
    once = layer(x)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(layer(x), once)
    finally:
        torch.set_num_threads(before)
    layer(torch.full((300, 70), float("nan")))
    assert torch.allclose(layer(x[:33]), once[:33], atol=1e-6)


@needs_kernels
@pytest.mark.parametrize(
    ("width", "rows", "zeros", "least"),
    [
        (300, 300, 0.8, 17),
        (1100, 300, 0.8, 3),
        (1100, 300, 0.95, 17),
        (1100, 1300, 0.99, 33),
        (1100, 200, 0.8, 1000),
    ],
)
def test_batches_meet_the_weights_in_blocks_where_that_pays(sparsify, width, rows, zeros, least):
    dense = sparsify(nn.Linear(width, rows), zeros)
    layer = SparseLinear.from_linear(dense)
    for batch in (1, 2, 3, 8, 16, 17, 32, 33, 64, 100, 200):
        x = torch.randn(batch, width)
        assert torch.allclose(layer(x), dense(x), atol=1e-4)
        assert (layer.made().blocks is not None) == (batch >= least)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x), layer(x))


@needs_kernels
def test_torchs_defaults_for_new_tensors_do_not_matter(sparsify, conv):
    dense = sparsify(nn.Linear(1100, 50), 0.8)
    x, y = torch.randn(64, 1100), torch.randn(2, 6, 9, 9)
    expected = dense(x), conv(y)
    layer, image = SparseLinear.from_linear(dense), SparseConv2d.from_conv(conv)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = layer(x), image(y)
    finally:
        torch.set_default_dtype(torch.float32)
    for left, right in zip(found, expected, strict=True):
        assert torch.allclose(left, right, atol=1e-4)


def test_a_traced_layer_computes_and_does_not_repeat_what_it_saw(linear, conv):
    for layer, shape in (
        (SparseLinear.from_linear(linear), (4, 70)),
        (SparseConv2d.from_conv(conv), (2, 6, 9, 9)),
    ):
        traced = torch.jit.trace(layer.eval(), torch.randn(*shape))
        x = torch.randn(*shape)
        assert torch.allclose(traced(x), layer(x), atol=1e-6)


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


@pytest.mark.parametrize("engine", ["kernels", "torch"])
def test_operators_refuse_arrays_that_would_read_astray(linear, conv, engine, request):
    if engine == "torch":
        request.getfixturevalue("without_kernels")
    layer, image = SparseLinear.from_linear(linear), SparseConv2d.from_conv(conv)
    x, y = torch.randn(4, 70), torch.randn(1, 6, 9, 9)
    good = [layer.row_starts, layer.columns, layer.values, layer.bias]
    assert torch.equal(torch.ops.mirrormask.sparse_linear(x, *good), layer(x))
    falling = layer.row_starts.clone()
    falling[20], falling[21] = int(falling[21]) + 1, int(falling[20])
    for index, bad in (
        (0, layer.row_starts + 1),
        (0, layer.row_starts[:-1]),
        (0, falling),
        (1, layer.columns + 60),
        (1, layer.columns.long()),
        (1, layer.columns[:-1]),
        (1, layer.columns.flip(0)),
        (1, torch.zeros_like(layer.columns)),
        (2, layer.values[:-1]),
        (2, layer.values.half()),
        (3, layer.bias[:-1]),
        (3, layer.bias.half()),
    ):
        arguments = [bad if place == index else item for place, item in enumerate(good)]
        with pytest.raises(ArgumentError, match=r"no CSR matrix|a bias of shape"):
            torch.ops.mirrormask.sparse_linear(x, *arguments)
    kinds = {"sizes": image.geometry.numbers(), "padding_mode": "zeros"}
    arrays = (image.row_starts, image.columns, image.values, image.bias)
    for form in ("kernel", "columns", "shifts"):
        for bad in (
            (image.row_starts, image.columns + 40, image.values, image.bias),
            (image.row_starts, image.columns.flip(0), image.values, image.bias),
            (image.row_starts[1:], *arrays[1:]),
            (*arrays[:3], image.bias[:1]),
        ):
            with pytest.raises(ArgumentError, match=r"no CSR matrix|a bias of shape"):
                torch.ops.mirrormask.sparse_conv2d(y, *bad, form=form, **kinds)
    with pytest.raises(ArgumentError, match="form='rows'"):
        torch.ops.mirrormask.sparse_conv2d(y, *arrays, form="rows", **kinds)
    if engine == "kernels":
        with pytest.raises(ArgumentError, match="not 6 channels"):
            torch.ops.mirrormask.sparse_conv2d(y[:, :5], *arrays, form="kernel", **kinds)
    table = SparseEmbedding.from_embedding(nn.Embedding(5, 3))
    with pytest.raises(ArgumentError, match="no CSR matrix"):
        torch.ops.mirrormask.sparse_embedding(
            torch.tensor([1]), table.row_starts + 1, table.columns, table.values, 3
        )


def test_operators_keep_what_they_made_as_long_as_the_values_live(linear):
    gc.collect()
    made_before = len(made._SLOTS)
    layer = SparseLinear.from_linear(linear)
    x = torch.randn(4, 70)
    arrays = (*layer.arrays, layer.bias)
    first = torch.ops.mirrormask.sparse_linear(x, *arrays)
    slot = made._SLOTS[layer.values]
    held = slot._held
    assert torch.equal(torch.ops.mirrormask.sparse_linear(x, *arrays), first)
    assert slot._held is held
    layer.values.mul_(2)
    second = torch.ops.mirrormask.sparse_linear(x, *arrays)
    assert torch.allclose(second - layer.bias, 2 * (first - layer.bias), atol=1e-5)
    assert slot._held is not held
    del layer, arrays, slot, held
    gc.collect()
    assert len(made._SLOTS) == made_before


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_arrays_that_move_or_change_in_place_are_seen(sparsify, conv, batch, bias):
    dense = sparsify(nn.Linear(1100, 40, bias=bias), 0.8)
    conv.bias = conv.bias if bias else None
    layer, image = SparseLinear.from_linear(dense), SparseConv2d.from_conv(conv)
    x, y = torch.randn(batch, 1100), torch.randn(batch, 6, 9, 9)
    before = layer(x), image(y)
    for module in (layer, image):
        module.share_memory()
    # Whatever takes the old memory over must not be read in its place.
    fill = [torch.full((size,), float("nan")) for size in (layer.nonzeros, image.nonzeros) * 20]
    assert torch.equal(layer(x), before[0])
    assert torch.equal(image(y), before[1])
    del fill
    for module in (layer, image):
        module.values.mul_(0.5)
        if bias:
            module.bias.mul_(0.5)
    assert torch.allclose(layer(x), before[0] / 2, atol=1e-5)
    assert torch.allclose(image(y), before[1] / 2, atol=1e-5)
    layer.columns.add_(2000)
    with pytest.raises(ArgumentError, match="column is outside"):
        layer(x)
    image.values = image.values[:-1]
    with pytest.raises(ArgumentError, match="do not fit"):
        image(y)


def test_options_may_change_after_a_call(linear, conv):
    layer, image = SparseLinear.from_linear(linear), SparseConv2d.from_conv(conv)
    x, y = torch.randn(4, 70), torch.randn(2, 6, 9, 9)
    for engine, form, relu in (
        ("kernel", "kernel", False),
        ("torch", "columns", True),
        ("kernel", "kernel", True),
        ("torch", "columns", False),
    ):
        layer.engine, image.form, layer.relu, image.relu = engine, form, relu, relu
        for found, expected in ((layer(x), linear(x)), (image(y), conv(y))):
            assert torch.allclose(found, expected.relu() if relu else expected, atol=1e-5)


def test_layers_made_in_inference_mode_work_outside_of_it(linear, conv):
    with torch.inference_mode():
        layer, image = SparseLinear.from_linear(linear), SparseConv2d.from_conv(conv)
    x, y = torch.randn(4, 70), torch.randn(2, 6, 9, 9)
    assert torch.allclose(layer(x), linear(x), atol=1e-5)
    assert torch.allclose(image(y), conv(y), atol=1e-5)


@needs_kernels
def test_threads_that_meet_new_sizes_together_agree(sparsify, conv):
    dense = sparsify(nn.Linear(1100, 300), 0.8)
    inputs = [torch.randn(batch, 1100) for batch in (1, 3, 16, 40, 64, 100)]
    images = [torch.randn(1 + i % 2, 6, 5 + i, 9) for i in range(6)]
    expected = [dense(x) for x in inputs], [conv(y) for y in images]
    wrong: list[object] = []

    def work(layer, image, start, turn):
        start.wait()
        for i in range(6):
            at = (i + turn) % 6
            if not torch.allclose(layer(inputs[at]), expected[0][at], atol=1e-4):
                wrong.append(at)
            if not torch.allclose(image(images[at]), expected[1][at], atol=1e-4):
                wrong.append(images[at].shape)

    for _ in range(20):
        layer, image = SparseLinear.from_linear(dense), SparseConv2d.from_conv(conv)
        start = threading.Barrier(4)
        workers = [
            threading.Thread(target=work, args=(layer, image, start, turn)) for turn in range(4)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert not wrong


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
