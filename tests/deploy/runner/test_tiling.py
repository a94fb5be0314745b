"""Convolutions in tiles within programs, against torch in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from mirrormask import runtime
from mirrormask.deploy.runner import plan
from mirrormask.kernels import active
from mirrormask.kernels.build import BuildError, build
from mirrormask.runtime import steps
from mirrormask.runtime.program_file import write_program

CASES = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def everything_in_tiles(tmp_path_factory):
    """Kernels that lay every convolution out in tiles, with threads also for the smallest work."""
    target = tmp_path_factory.mktemp("kernels") / "kernels.so"
    try:
        return build(target, flags=("-DMM_ALWAYS_TILES=1", "-DMM_LEAST_WORK=1"))
    except BuildError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _tiles(everything_in_tiles, monkeypatch):
    monkeypatch.setattr(active, "LIBRARY", everything_in_tiles)
    active._load.cache_clear()
    if active.kernel_status().variant == "portable":
        pytest.skip("there are no tiles without vectors of eight")
    yield
    active._load.cache_clear()


def kinds(description):
    return description.steps[:, 0].tolist()


@CASES
@given(data=st.data(), sparsity=st.sampled_from([0.0, 0.6, 1.0]), threads=st.integers(1, 3))
def test_single_convolutions_are_one_step(agree, thin, data, sparsity, threads):
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inner, outer = groups * draw(st.integers(1, 4)), groups * draw(st.integers(1, 9))
    kernel, stride, dilation = (
        draw(st.tuples(st.integers(1, most), st.integers(1, most))) for most in (4, 3, 2)
    )
    spans = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    padding = tuple(draw(st.integers(0, min(3, span))) for span in spans)
    least = [max(1, span + 1 - 2 * pad) for span, pad in zip(spans, padding, strict=True)]
    size = [draw(st.integers(low, low + 20)) for low in least]
    x = torch.randn(draw(st.integers(1, 5)), inner, *size)
    layer = nn.Conv2d(
        inner,
        outer,
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
    )
    model = nn.Sequential(layer, nn.ReLU()) if draw(st.booleans()) else layer
    found = agree(thin(model, sparsity), x, threads=threads)
    assert kinds(found) == [steps.Convolution.kind]
    assert found.arena == 0


@CASES
@given(
    channels=st.integers(1, 6),
    length=st.integers(6, 40),
    stride=st.integers(1, 2),
    n=st.integers(1, 3),
)
def test_signals_are_images_of_one_row(agree, thin, channels, length, stride, n):
    layer = thin(nn.Conv1d(channels, 5, 3, stride=stride, padding=2))
    assert kinds(agree(layer, torch.randn(n, channels, length))) == [steps.Convolution.kind]


class Net(nn.Module):
    """Sums of branches, norms, a layer over padded planes, pooling, and two outputs."""

    def __init__(self, channels, stride):
        super().__init__()
        self.one = nn.Conv2d(channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.two = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(channels, 6, 1)
        # Padded by more than it sees, which tiles in a program do not take.
        self.padded = nn.Conv2d(6, 5, 1, padding=1)
        self.last = nn.Conv2d(5, 4, 3, stride=stride)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)

    def forward(self, x):
        x = torch.relu(self.two(torch.relu(self.norm(self.one(x)))) + self.shortcut(x))
        return self.pool(x), self.last(self.padded(x))


@CASES
@given(
    channels=st.integers(1, 4),
    size=st.tuples(st.integers(3, 20), st.integers(3, 33)),
    stride=st.integers(1, 2),
    batch=st.integers(1, 4),
    threads=st.integers(1, 2),
)
def test_tiles_and_planes_read_each_other(agree, thin, channels, size, stride, batch, threads):
    model = thin(Net(channels, stride))
    x = torch.randn(batch, channels, *size)
    found = kinds(agree(model, x, threads=threads))
    assert found.count(steps.Convolution.kind) == 4
    assert found.count(steps.Planes.kind) == 1
    # The norm and the sum of both branches with its ReLU are done on the way.
    assert steps.Pointwise.kind not in found


def test_what_others_read_as_well_is_copied_out(agree, thin, wrapped):
    one, two = thin(nn.Conv2d(3, 4, 3)), thin(nn.Conv2d(4, 4, 3))
    both = wrapped(lambda held, x: (held.one(x), held.two(held.one(x))), one=one, two=two)
    assert kinds(agree(both, torch.randn(2, 3, 9, 9))).count(steps.Convolution.kind) >= 2

    def shared(held, x):
        y = held.one(x)
        return y, held.two(y), y.flatten(1)

    found = kinds(agree(wrapped(shared, one=one, two=two), torch.randn(2, 3, 9, 9)))
    assert found == [steps.Convolution.kind] * 2 + [steps.Copy.kind] * 2
    turned = wrapped(lambda held, x: held.one(x.transpose(2, 3)).transpose(2, 3), one=one)
    assert len(kinds(agree(turned, torch.randn(2, 3, 9, 9)))) == 3


def test_files_hold_them(thin, tmp_path):
    model, x = thin(Net(3, 2)), torch.randn(4, 3, 12, 17)
    write_program(tmp_path / "p", plan(model, (x[:2],)))
    program = runtime.load(tmp_path / "p")
    assert kinds(program.description).count(steps.Convolution.kind) == 4
    for mine, wanted in zip(program(x.numpy()), model(x), strict=True):
        assert np.allclose(mine, wanted.detach().numpy(), atol=1e-5)
    held = program.description.nbytes
    assert program.nbytes > held + sum(
        8 * matrix.columns.size for matrix in program.description.matrices[:1]
    )


def test_the_planner_decides(monkeypatch, thin):
    monkeypatch.undo()
    active._load.cache_clear()
    if active.kernel_status().variant != "avx512":
        pytest.skip("what pays depends on the processor")
    wide = plan(thin(nn.Conv2d(64, 64, 3, padding=1), 0.9), (torch.randn(1, 64, 56, 56),))
    assert kinds(wide) == [steps.Convolution.kind]
    narrow = thin(nn.Sequential(*[nn.Conv2d(16, 16, 3, padding=1) for _ in range(2)]), 0.98)
    assert steps.Planes.kind in kinds(plan(narrow, (torch.randn(1, 16, 32, 32),)))
