"""Compiled loops of the mirror step: the same on every processor, and as exact as torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mirrormask.geometry import compiled_step, mirror_step
from mirrormask.geometry.blocks import BLOCK
from mirrormask.geometry.mirror_step import SMALL_GAIN, soft_threshold_, turn_
from mirrormask.kernels import kernels

A, NEXT, T = torch.tensor(0.15), torch.tensor(0.149), torch.tensor(0.002)

pytestmark = pytest.mark.skipif(kernels() is None, reason="the kernels are not compiled")


def drawn(*shape: int, largest: float = SMALL_GAIN) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = 0.05 * torch.randn(shape, generator=generator)
    return x, largest * (2 * torch.rand(shape, generator=generator) - 1)


def turned(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    return turn_(x.clone(), A, gain.clone(), NEXT)


def shrunk(x: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    soft_threshold_(x, A, T)
    return x


def without_loops(
    monkeypatch: pytest.MonkeyPatch, step: Callable[[], torch.Tensor]
) -> torch.Tensor:
    with monkeypatch.context() as patch:
        patch.setattr(compiled_step, "kernels", lambda: None)
        return step()


def test_every_processor_and_thread_count_gives_the_same_bits() -> None:
    library, (x, gain) = kernels(), drawn(3 * BLOCK + 77)
    assert library is not None
    best, threads = library.variant, torch.get_num_threads()
    wanted = turned(x, gain), shrunk(x)
    try:
        for variant in library.variants:
            library.variant = variant
            for count in (1, 3):
                torch.set_num_threads(count)
                for mine, its in zip((turned(x, gain), shrunk(x)), wanted, strict=True):
                    assert torch.equal(mine, its)
    finally:
        library.variant = best
        torch.set_num_threads(threads)


def test_they_agree_with_torch_to_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    x, gain = drawn(BLOCK + 1000)
    for step in (lambda: turned(x, gain), lambda: shrunk(x)):
        mine, its = step(), without_loops(monkeypatch, step)
        assert not torch.equal(mine, x)
        assert ((mine == 0) == (its == 0)).float().mean() > 0.9999
        torch.testing.assert_close(mine, its, rtol=1e-6, atol=3e-8)


def test_blocks_with_a_large_gain_go_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    x, gain = drawn(3 * BLOCK)
    gain[BLOCK] = 1.0
    gain[2 * BLOCK] = torch.nan
    mine = turned(x, gain)
    its = without_loops(monkeypatch, lambda: turned(x, gain))
    assert torch.equal(mine[BLOCK:].nan_to_num(7.0), its[BLOCK:].nan_to_num(7.0))
    assert torch.equal(mine[:BLOCK], turned(x[:BLOCK], gain[:BLOCK]))
    assert mine.isnan().sum() == 1


@pytest.mark.parametrize("layout", ["double", "transposed", "empty"])
def test_what_they_do_not_know_goes_through_torch(layout: str) -> None:
    x, gain = drawn(0 if layout == "empty" else 40, 30)
    if layout == "double":
        x, gain = x.double(), gain.double()
        wanted = mirror_step.mirror_step(x, A.double(), -2 * gain, NEXT.double())
        a, a_next = A.double(), NEXT.double()
    else:
        wanted, a, a_next = turned(x, gain), A, NEXT
    if layout == "transposed":
        x, gain, wanted = x.t(), gain.t(), wanted.t()
    torch.testing.assert_close(turn_(x.clone(), a, gain.clone(), a_next), wanted)
