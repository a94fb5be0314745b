"""Crops and flips are what they say, drawn from the generator that is passed and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mirrormask.study.augment import crop_and_flip, nudge_and_flip, random_crop, random_flip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(40, 1, 28, 28), (40, 3, 32, 32), (40, 3, 8, 12)])
@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize(("border", "mode"), [("constant", "constant"), ("replicate", "edge")])
def test_each_crop_is_a_window_of_its_padded_image(shape, padding, border, mode):
    images = torch.randn(shape, generator=generator(1))
    cropped = random_crop(images, generator(), padding=padding, border=border)
    width = [(0, 0), (padding, padding), (padding, padding)]
    seen = set()
    for image, result in zip(images.numpy(), cropped.numpy(), strict=True):
        padded = np.pad(image, width, mode=mode)
        windows = {
            (i, j): padded[:, i : i + shape[2], j : j + shape[3]]
            for i in range(2 * padding + 1)
            for j in range(2 * padding + 1)
        }
        places = [p for p, window in windows.items() if np.array_equal(window, result)]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) > 1 or padding == 0


def test_every_offset_comes_up_equally_often():
    # A one-pixel image shows which offset was drawn: it survives only in the middle.
    image = torch.zeros(1, 1, 9, 9)
    image[..., 4, 4] = 1
    cropped = random_crop(image.expand(8100, 1, 9, 9), generator(), padding=4)
    counts = cropped.sum(dim=(0, 1))
    assert counts.sum() == 8100
    assert (counts - 100).abs().max() < 50  # five standard deviations


def test_flips_are_mirror_images_half_of_the_time():
    images = torch.randn(2000, 3, 4, 5, generator=generator(1))
    flipped = random_flip(images, generator())
    mirrored = (flipped == images.flip(3)).flatten(1).all(dim=1)
    kept = (flipped == images).flatten(1).all(dim=1)
    assert (mirrored ^ kept).all()
    assert abs(int(mirrored.sum()) - 1000) < 112  # five standard deviations


@pytest.mark.parametrize("augment", [random_crop, random_flip, crop_and_flip, nudge_and_flip])
def test_only_the_passed_generator_matters(augment):
    images = torch.randn(16, 3, 32, 32, generator=generator(1))
    before = images.clone()
    state = torch.get_rng_state()
    first = augment(images, generator(5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(9)
    assert torch.equal(first, augment(images, generator(5)))
    assert not torch.equal(first, augment(images, generator(6)))
    assert torch.equal(images, before)
    assert first.shape == images.shape
    assert first.dtype == images.dtype
