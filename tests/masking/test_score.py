"""Saliency: what it orders, what it leaves alone, and that cut weights never win."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mirrormask.errors import ArgumentError
from mirrormask.masking import (
    ACDC,
    AtEnd,
    Block,
    Cycles,
    GradualCubic,
    Masking,
    ProjectAndFreeze,
    RigL,
    StaticRandom,
)
from mirrormask.masking.score import scores


def draw(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    size = (7, 5)
    magnitudes = torch.rand(size, generator=generator, dtype=torch.float64)
    squares = torch.rand(size, generator=generator, dtype=torch.float64) ** 4
    return magnitudes, squares, torch.rand(size, generator=generator) < 0.7


@given(st.integers(0, 999), st.floats(1e-4, 1e4))
def test_saliency_is_unchanged_by_the_scale_of_a_layer(seed: int, factor: float) -> None:
    """A layer multiplied by a number has gradients divided by it."""
    magnitudes, squares, kept = draw(seed)
    plain = scores("saliency", [magnitudes], [kept], [squares])[0]
    scaled = scores("saliency", [magnitudes * factor], [kept], [squares / factor**2])[0]
    torch.testing.assert_close(plain, scaled, rtol=1e-10, atol=0)


@given(st.integers(0, 999))
def test_cut_weights_are_worth_less_than_any_other(seed: int) -> None:
    magnitudes, _, kept = draw(seed)
    worth = scores("saliency", [magnitudes], [kept], [torch.zeros_like(magnitudes)])[0]
    assert (worth[~kept] == 0).all()
    assert worth[kept].min() > 0


def test_a_group_is_worth_what_is_left_of_it() -> None:
    """A cut weight adds nothing to its block, and takes nothing away."""
    magnitudes = torch.ones(4, 8)
    magnitudes[:, 4:] = 0.5
    kept = torch.ones(4, 8, dtype=torch.bool)
    kept[0, 0] = False
    worth = scores("saliency", [magnitudes * kept], [kept], [torch.full((4, 8), 1e-6)])
    mask = Block(rows=4, columns=4).keep(worth, 0.5, "global")[0]
    assert mask[:, :4].all()
    assert not mask[:, 4:].any()


def test_where_no_gradient_came_magnitudes_decide() -> None:
    magnitudes = torch.tensor([0.3, 0.1, 0.2])
    kept = torch.ones(3, dtype=torch.bool)
    worth = scores("saliency", [magnitudes], [kept], [torch.zeros(3)])[0]
    assert worth.argsort().tolist() == magnitudes.argsort().tolist()


def test_saliency_predicts_the_loss_of_a_cut_in_a_quadratic() -> None:
    """With gradients of residual noise the mean square is the curvature: 2 * loss = score**2."""
    generator = torch.Generator().manual_seed(0)
    curvature = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64)
    optimum = torch.tensor([0.5, -1.0, 3.0], dtype=torch.float64)
    noise = torch.randn(200_000, 3, generator=generator, dtype=torch.float64) * curvature.sqrt()
    worth = scores(
        "saliency", [optimum.abs()], [torch.ones(3, dtype=torch.bool)], [noise.square().mean(0)]
    )[0]
    loss = 0.5 * curvature * optimum.square()
    torch.testing.assert_close(0.5 * worth.square(), loss, rtol=0.02, atol=0)


@pytest.mark.parametrize("score", ["magnitude", "saliency"])
def test_magnitudes_are_all_that_is_known_where_no_gradients_were_sensed(score: str) -> None:
    magnitudes, _, kept = draw(0)
    assert torch.equal(scores(score, [magnitudes], [kept], None)[0], magnitudes)


def test_gradients_are_sensed_until_the_last_cut() -> None:
    def sensed(masking: object) -> list[int]:
        return [step for step in range(1, 11) if masking.senses(step, 10)]

    assert sensed(GradualCubic(begin=0.1, end=0.6)) == []
    assert sensed(GradualCubic(begin=0.1, end=0.6, score="saliency")) == [1, 2, 3, 4, 5, 6]
    assert sensed(ProjectAndFreeze(at=0.3, score="saliency")) == [1, 2, 3]
    assert sensed(AtEnd(score="saliency")) == list(range(1, 11))


@pytest.mark.parametrize(
    "masking",
    [
        GradualCubic(begin=0.13, end=0.66, score="saliency"),
        ProjectAndFreeze(at=0.37, score="saliency"),
        ACDC(warmup=0.1, final=0.23, cycles=3, score="saliency"),
        Cycles(cycles=3, score="saliency"),
    ],
    ids=lambda masking: type(masking).__name__,
)
@pytest.mark.parametrize("steps", [7, 10, 100, 101])
def test_the_last_cut_is_the_last_one(masking: Masking, steps: int) -> None:
    cuts = [s for s in range(steps + 1) if masking.cut_after(s, steps, 0.9) is not None]
    assert masking.last_cut(steps) == cuts[-1]


def test_an_unknown_score_is_refused() -> None:
    with pytest.raises(ArgumentError, match="score='size' is unknown"):
        AtEnd(score="size")


def test_drop_and_grow_refuses_scores_and_floors() -> None:
    with pytest.raises(ArgumentError, match="drops by magnitude"):
        RigL(score="saliency")
    with pytest.raises(ArgumentError, match="drops by magnitude"):
        RigL(floor=0.1)


def test_random_masks_refuse_scores_and_floors() -> None:
    with pytest.raises(ArgumentError, match="draws at random"):
        StaticRandom(score="saliency")
    with pytest.raises(ArgumentError, match="draws at random"):
        StaticRandom(scope="global", floor=0.1)
