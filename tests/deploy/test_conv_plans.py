"""Which way a convolution is done, and that each way is right at edges."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mirrormask.deploy import SparseConv2d, conv_plans
from mirrormask.deploy.conv_plans import PlanesPlan, TilesPlan
from mirrormask.kernels import VARIANTS, WAYS, Tiles, kernel_status, kernels

needs_kernels = pytest.mark.skipif(kernels() is None, reason=kernel_status().reason)


@needs_kernels
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding", "size", "batch"),
    [
        (24, 3, 1, 1, 30, 2),  # rows of two registers
        (24, 3, 1, 1, 14, 5),
        (24, 3, 1, 1, 7, 9),  # two tiles in a register
        (24, 3, 2, 1, 15, 3),
        (24, (3, 5), 1, (0, 2), 12, 2),
        (200, 1, 1, 0, 12, 2),  # one long row, read where it lies
        (200, 1, 1, 0, 13, 2),
    ],
)
def test_convolutions_that_have_enough_weights_run_in_tiles(
    sparsify, threads, channels, kernel, stride, padding, size, batch
):
    dense = sparsify(nn.Conv2d(channels, 70, kernel, stride, padding), 0.6)
    image = SparseConv2d.from_conv(dense)
    image.relu = True
    x = torch.randn(batch, channels, size, size)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = image(x)
        assert torch.allclose(found, dense(x).relu(), atol=1e-5)
        (plan,) = image.made().plans.values()
        if kernels().variant != "portable":
            assert isinstance(plan, TilesPlan)
            assert image.made().extra_bytes >= 8 * int((dense.weight != 0).sum())
    finally:
        torch.set_num_threads(before)
    assert torch.equal(image(x), found)


def in_strips(plan) -> bool:
    return isinstance(plan, TilesPlan) and bool(plan.tiles.strips)


@needs_kernels
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("channels", "kernel", "dilation", "size", "batch"),
    [
        (24, 3, 1, (56, 56), 2),  # strips of whole rows
        (24, 3, 1, (31, 33), 3),  # rows that begin anywhere; the last register is not full
        (24, (3, 5), 1, (40, 40), 1),
        (8, (1, 3), 1, (40, 64), 1),  # nothing above or below is met
        (24, 3, 2, (50, 40), 1),
        (24, 3, 1, (1100, 100), 1),  # in no cache
    ],
)
def test_convolutions_that_keep_the_size_and_have_few_weights_run_in_strips(
    sparsify, threads, channels, kernel, dilation, size, batch
):
    conv = nn.Conv2d(channels, 70, kernel, padding="same", dilation=dilation)
    dense = sparsify(conv, 0.98)
    image = SparseConv2d.from_conv(dense)
    image.relu = True
    x = torch.randn(batch, channels, *size)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = image(x)
        assert torch.allclose(found, dense(x).relu(), atol=1e-5)
        (plan,) = image.made().plans.values()
        assert in_strips(plan) or kernels().variant == "portable"
    finally:
        torch.set_num_threads(before)
    assert torch.equal(image(x), found)


@needs_kernels
@pytest.mark.parametrize("width", [28, 32, 33, 56, 64, 112])
@pytest.mark.parametrize("registers", range(1, 15))
def test_strips_of_every_length_know_where_rows_end(sparsify, monkeypatch, width, registers):
    def planned(library, conv, *, outputs, nonzeros, packing):
        variant = VARIANTS.index(library.variant)
        tiles = Tiles(
            conv=conv, outputs=outputs, nonzeros=nonzeros, variant=variant, way=WAYS.index("strips")
        )
        assert library.tiles.plan(tiles)
        assert tiles.strips
        tiles.patch = registers
        return tiles

    variant = kernels().variant
    if variant == "portable" or (variant == "avx2" and registers > 7):
        pytest.skip(f"{variant} has no strips of {registers} registers")
    monkeypatch.setattr(conv_plans, "tiles_that_pay", planned)
    dense = sparsify(nn.Conv2d(5, 6, 3, padding=1), 0.3)
    x = torch.randn(1, 5, 40, width)
    assert torch.allclose(SparseConv2d.from_conv(dense)(x), dense(x), atol=1e-5)


@needs_kernels
@pytest.mark.parametrize("odd", [float("inf"), float("nan"), 3e38])
def test_what_strips_read_beyond_the_end_of_a_row_leaves_no_trace(sparsify, odd):
    conv = sparsify(nn.Conv2d(24, 24, 3, padding=1), 0.98)
    x = torch.randn(1, 24, 56, 56)
    x[..., -1] = x[..., 0] = odd
    weight = conv.weight.double()
    wanted = torch.zeros(1, 24, 56, 56, dtype=torch.double) + conv.bias.double().view(1, -1, 1, 1)
    padded = nn.functional.pad(x.double(), (1, 1, 1, 1))
    for o, i, y, z in weight.nonzero().tolist():  # zeros must not meet what is not finite
        wanted[0, o] += weight[o, i, y, z] * padded[0, i, y : y + 56, z : z + 56]
    image = SparseConv2d.from_conv(conv)
    found = image(x)
    (plan,) = image.made().plans.values()
    assert in_strips(plan) or kernels().variant == "portable"
    assert torch.allclose(found, wanted.float(), atol=1e-5, equal_nan=True)


@needs_kernels
def test_convolutions_with_few_weights_run_over_planes(sparsify):
    dense = sparsify(nn.Conv2d(16, 16, 3), 0.99)
    image, x = SparseConv2d.from_conv(dense), torch.randn(1, 16, 32, 32)
    assert torch.allclose(image(x), dense(x), atol=1e-5)
    (plan,) = image.made().plans.values()
    assert isinstance(plan, PlanesPlan)
