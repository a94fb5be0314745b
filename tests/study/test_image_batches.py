"""Image files arrive decoded, cut and normalised, the same whatever decodes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Generator

from mirrormask.errors import ArgumentError, DataError
from mirrormask.study.image_batches import (
    MEAN,
    STD,
    ImageBatches,
    augmented_image,
    plain_image,
    random_part,
)
from mirrormask.study.image_folder import ImageFiles


def undo(image: torch.Tensor) -> torch.Tensor:
    shape = (3, 1, 1)
    return (image * torch.tensor(STD).view(shape) + torch.tensor(MEAN).view(shape)) * 255


@pytest.fixture
def files(tmp_path: Path) -> ImageFiles:
    """Write images that are smooth, of several sizes, modes and formats."""
    paths = []
    for i in range(7):
        y, x = np.mgrid[0 : 30 + i, 0 : 40 - i]
        pixels = np.stack([3 * y, 5 * x, 0 * x + 30 * i], 2).astype(np.uint8)
        path = tmp_path / f"{i}.{'png' if i % 2 else 'JPEG'}"
        Image.fromarray(pixels).save(path)
        paths.append(path)
    return ImageFiles(paths=tuple(paths), labels=torch.arange(7))


def all_of(batches: ImageBatches) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_a_plain_image_is_the_middle_at_seven_eighths(tmp_path):
    y, x = np.mgrid[0:64, 0:96]
    pixels = np.stack([2 * y, 2 * x, 0 * x + 7], 2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = undo(plain_image(tmp_path / "a.png", 28))
    assert image.shape == (3, 28, 28)
    # 64x96 becomes 32x48, cut to 28x28 from row 2 and column 10: each pixel is the mean of two.
    rows = (2 * (torch.arange(2, 30) + 0.5) * 2 - 1).expand(28, 28)
    columns = (2 * (torch.arange(10, 38) + 0.5) * 2 - 1).expand(28, 28)
    torch.testing.assert_close(image[0], rows.T, atol=0.6, rtol=0)
    torch.testing.assert_close(image[1], columns, atol=0.6, rtol=0)
    torch.testing.assert_close(image[2], torch.full((28, 28), 7.0), atol=1e-3, rtol=0)


def test_grey_and_transparent_images_become_three_channels(tmp_path):
    Image.new("L", (40, 40), 100).save(tmp_path / "grey.png")
    Image.new("RGBA", (40, 40), (100, 100, 100, 7)).save(tmp_path / "clear.png")
    for name in ("grey", "clear"):
        image = undo(plain_image(tmp_path / f"{name}.png", 16))
        torch.testing.assert_close(image, torch.full((3, 16, 16), 100.0), atol=1e-3, rtol=0)


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 10**6))
def test_random_parts_lie_inside_and_have_the_paper_s_sizes(width, height, seed):
    left, upper, right, lower = random_part(width, height, Generator().manual_seed(seed))
    assert 0 <= left < right <= width
    assert 0 <= upper < lower <= height


def test_random_parts_cover_areas_and_shapes_evenly():
    generator = Generator().manual_seed(0)
    boxes = [random_part(1000, 1000, generator) for _ in range(3000)]
    areas = torch.tensor([(r - le) * (lo - u) / 1e6 for le, u, r, lo in boxes])
    ratios = torch.tensor([(r - le) / (lo - u) for le, u, r, lo in boxes])
    # Boxes that stick out are drawn again, so the largest areas are a little rarer.
    assert 0.079 < float(areas.min()) < 0.09
    assert 0.97 < float(areas.max()) <= 1
    assert 0.745 < float(ratios.min()) < 0.76
    assert 1.32 < float(ratios.max()) < 1.34
    small = areas < 0.5
    assert float(areas[small].mean()) == pytest.approx(0.29, abs=0.02)
    assert float(ratios.log().mean()) == pytest.approx(0, abs=0.02)


def test_half_of_the_augmented_images_are_mirrored(tmp_path):
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, :, 0] = 8 * np.arange(32)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    rising = [
        float(image[0, :, -1].mean() - image[0, :, 0].mean()) > 0
        for seed in range(200)
        for image in [augmented_image(tmp_path / "a.png", 8, Generator().manual_seed(seed))]
    ]
    assert 75 < sum(rising) < 125


@pytest.mark.parametrize("augment", [False, True])
def test_batches_do_not_depend_on_processes_or_global_state(files, augment):
    results = []
    for workers, seed in ((None, 1), (2, 2)):
        torch.manual_seed(seed)
        batches = ImageBatches(
            files, image_size=16, batch_size=3, seed=5, augment=augment, workers=workers
        )
        batches.set_epoch(2)
        before = torch.get_rng_state()
        results.append(all_of(batches))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert sorted(results[0][1].tolist()) == list(range(7))


def test_epochs_and_seeds_change_order_and_augmentation(files):
    def of(epoch: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        batches = ImageBatches(files, image_size=16, batch_size=7, seed=seed, augment=True)
        batches.set_epoch(epoch)
        images, labels = all_of(batches)
        return images[labels.argsort()], labels

    first = of(0, 0)
    assert torch.equal(of(0, 0)[0], first[0])
    for other in (of(1, 0), of(0, 1)):
        assert not torch.equal(other[0], first[0])
        assert not torch.equal(other[1], first[1])


def test_plain_batches_keep_the_order_and_the_images(files):
    batches = ImageBatches(files, image_size=16, batch_size=3, seed=5, augment=True)
    images, labels = all_of(batches.plain())
    assert (len(batches), len(images)) == (3, 7)
    assert labels.tolist() == list(range(7))
    expected = torch.stack([plain_image(path, 16) for path in files.paths])
    assert torch.equal(images, expected)
    assert torch.equal(batches.example, expected[:1])


def test_bad_files_and_numbers_are_named(files, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(files.paths[0].read_bytes()[:100])
    with pytest.raises(DataError, match=r"bad\.jpg cannot be decoded"):
        plain_image(bad, 16)
    Image.new("RGB", (20, 20)).save(tmp_path / "other.jpg", "GIF")
    with pytest.raises(DataError, match=r"other\.jpg cannot be decoded"):
        plain_image(tmp_path / "other.jpg", 16)
    with pytest.raises(ArgumentError, match="batch_size=0"):
        ImageBatches(files, image_size=16, batch_size=0)
