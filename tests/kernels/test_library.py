"""What is loaded, what is refused, and what the user is told."""

from __future__ import annotations

import ctypes
import os
import threading

import pytest
import torch

from mirrormask.deploy.csr import dense_to_csr
from mirrormask.errors import ArgumentError
from mirrormask.kernels import Blocks, Conv, Live, Rows, kernels, library

LAYOUT = (ctypes.c_int32 * 2)(0, 0)


def product(compiled, matrix, x, threads=1):
    starts, columns, values = dense_to_csr(matrix)
    rows = compiled.rows(
        matrix.shape[0],
        starts=starts.data_ptr(),
        columns=columns.data_ptr(),
        values=values.data_ptr(),
        bias=None,
        relu=False,
    )
    out = torch.full((x.shape[0], matrix.shape[0]), float("nan"))
    compiled.linear(
        rows,
        x.shape[1],
        x.data_ptr(),
        x.shape[0],
        out.data_ptr(),
        by_columns=LAYOUT,
        threads=threads,
    )
    return out


@pytest.fixture
def matrix():
    return torch.randn(300, 200) * (torch.rand(300, 200) < 0.1)


def test_every_variant_and_thread_count_gives_the_same(compiled, matrix, monkeypatch):
    x = torch.randn(70, 200)
    expected = x.double() @ matrix.double().T
    for variant in compiled.variants:
        monkeypatch.setattr(compiled, "variant", variant)
        one = product(compiled, matrix, x)
        assert torch.allclose(one.double(), expected, atol=1e-4)
        for threads in (2, 3, 7, 100):
            assert torch.equal(product(compiled, matrix, x, threads), one)


def test_python_threads_may_share_the_pool(compiled, matrix):
    x = torch.randn(16, 200)
    expected, wrong = product(compiled, matrix, x), []

    def work():
        for _ in range(50):
            if not torch.equal(product(compiled, matrix, x, threads=2), expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_a_forked_child_and_a_released_pool_work_again(compiled, matrix):
    x = torch.randn(16, 200)
    expected = product(compiled, matrix, x, threads=3)
    child = os.fork()
    if child == 0:
        same = torch.equal(product(compiled, matrix, x, threads=3), expected)
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    compiled.release()
    assert torch.equal(product(compiled, matrix, x, threads=3), expected)


def test_impossible_sizes_and_plans_are_refused_before_anything_is_read(compiled):
    good = {"rows": 1, "starts": 8, "columns": 8, "values": 8, "bias": None, "relu": False}
    for rows, width, n, threads in ((-1, 1, 1, 1), (1, -1, 1, 1), (1, 1, -1, 1), (1, 1, 1, 0)):
        matrix = compiled.rows(**{**good, "rows": rows})
        with pytest.raises(ArgumentError, match="do not fit"):
            compiled.linear(matrix, width, 8, n, 8, by_columns=LAYOUT, threads=threads)
    with pytest.raises(ArgumentError, match="do not fit"):
        compiled.linear(Rows(1, 8, 8, 8, 8, 0, 99, None), 1, 8, 1, 8, by_columns=LAYOUT, threads=1)
    with pytest.raises(ArgumentError, match="do not fit"):
        compiled.transpose(8, -1, 1, 8, threads=1)
    with pytest.raises(ArgumentError, match="do not fit"):
        compiled.plan_blocks(compiled.rows(**good), 0)
    with pytest.raises(ArgumentError, match="do not fit"):
        compiled.fill_blocks(compiled.rows(**good), Blocks())
    sizes = {"channels": 1, "height": 5, "width": 5, "images": 1}
    shape = {"kernel": (3, 3), "stride": (1, 1), "dilation": (1, 1), "pad": (0, 0, 0, 0)}
    assert compiled.plan(Conv(**sizes, **shape))
    for bad in (
        {"height": 2},
        {"channels": 0},
        {"images": -1},
        {"width": 2**62},
        {"channels": 2**30, "width": 2**20},
    ):
        assert not compiled.plan(Conv(**{**sizes, **bad}, **shape))
    for bad in ({"stride": (0, 1)}, {"dilation": (1, 0)}, {"pad": (0, -1, 0, 0)}):
        assert not compiled.plan(Conv(**sizes, **{**shape, **bad}))
    assert not compiled.plan(Conv(**sizes, **{**shape, "kernel": (0, 3)}))
    conv = Conv(**sizes, **shape)
    compiled.plan(conv)
    columns = torch.tensor([0, 9], dtype=torch.int32)
    with pytest.raises(ArgumentError, match="kernel's columns"):
        compiled.offsets(conv, columns.data_ptr(), 2, columns.data_ptr())


def test_a_convolution_in_training_is_planned_or_refused(compiled):
    sizes = {"channels": 3, "height": 5, "width": 5, "images": 20}
    shape = {"kernel": (3, 3), "stride": (1, 1), "dilation": (1, 1), "pad": (1, 1, 1, 1)}
    live = Live(conv=Conv(**sizes, **shape), outputs=2)
    assert compiled.live.plan(live)
    assert (live.lanes, live.band, list(live.reach)) == (8, 7, [2, 2])
    for images, lanes in ((1, 1), (3, 4), (6, 8), (12, 16), (17, 4), (33, 8), (64, 16)):
        again = Live(conv=Conv(**{**sizes, "images": images}, **shape), outputs=2)
        assert compiled.live.plan(again)
        assert again.lanes == lanes
    for outputs in (0, -1, 2**31, 2**62):
        assert not compiled.live.plan(Live(conv=Conv(**sizes, **shape), outputs=outputs))
    assert not compiled.live.plan(Live(conv=Conv(**{**sizes, "height": 0}, **shape), outputs=2))
    columns = torch.tensor([0, 27], dtype=torch.int32)
    for offsets, match in (
        (compiled.live.offsets, "the kernel's columns"),
        (compiled.live.turned_offsets, "the turned kernel's columns"),
    ):
        with pytest.raises(ArgumentError, match=match):
            offsets(live, columns.data_ptr(), 2, columns.data_ptr())
    starts = torch.zeros(3, dtype=torch.int32)

    def rows(count):
        pointer = starts.data_ptr()
        return compiled.rows(
            count, starts=pointer, columns=pointer, values=pointer, bias=None, relu=False
        )

    # Nothing lies at address 8: sizes are looked at before anything is read there.
    with pytest.raises(ArgumentError, match="the convolution"):
        compiled.live.forward(live, rows(1), 8, 8, threads=1)
    for count, turned, threads in ((1, 3, 1), (2, 2, 1), (2, 3, 0)):
        with pytest.raises(ArgumentError, match="the gradients of a convolution"):
            compiled.live.backward(
                live, rows(count), rows(turned), 8, 8, to_x=8, to_values=None, threads=threads
            )
    with pytest.raises(ArgumentError, match="the convolution"):
        compiled.live.forward(Live(outputs=2), rows(2), 8, 8, threads=1)


def test_the_environment_chooses_and_switches_off(compiled, fresh_status):
    assert not fresh_status(compiled.path, "off").active
    assert kernels() is None
    assert "off, portable" in fresh_status(compiled.path, "sse9").reason
    status = fresh_status(compiled.path, "portable")
    assert (status.active, status.variant) == (True, "portable")
    status = fresh_status(compiled.path)
    assert status.variant == compiled.variants[-1]


def test_a_library_that_is_missing_damaged_or_foreign_is_explained(
    tmp_path, compiled, fresh_status, monkeypatch
):
    assert "doctor --build" in fresh_status(tmp_path / "none.so").reason
    damaged = tmp_path / "damaged.so"
    damaged.write_text("no library")
    assert "cannot be loaded" in fresh_status(damaged).reason
    present = library._ABI
    monkeypatch.setattr(library, "_ABI", 99)
    assert f"version {present}, not 99" in fresh_status(compiled.path).reason
    monkeypatch.undo()
    monkeypatch.setattr(library, "Conv", Rows)
    assert "laid out in another way" in fresh_status(compiled.path).reason
    monkeypatch.setitem(library.SIGNATURES, "mm_other", (None, ()))
    assert "lacks mm_other" in fresh_status(compiled.path).reason
