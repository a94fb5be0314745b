"""Batches of images that are read and decoded while training runs, by several processes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from mirrormask.errors import ArgumentError, DataError, MissingExtraError
from mirrormask.study.image_folder import ImageFiles
from mirrormask.study.order import permutation, stream_seed

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's training images, on the scale where white is 1."""

Box = tuple[int, int, int, int]

_ORDER, _AUGMENT = 0, 1
_FEW = 1000


class ImageBatches:
    """Iterate over image files in batches, reproducibly; a loader as training loops ask for.

    Order and augmentation depend on ``seed``, the epoch and the image only, neither on the global
    random state nor on the number of processes.

    With ``augment`` a random part of each image is cut out, 8 % to 100 % of its area, and mirrored
    half of the time (Szegedy et al. 2015; the usual recipe for ImageNet). Without, the shorter side
    is brought to 8/7 of the size and the middle cut out.

    Args:
        files: What to read, at least one.
        image_size: Height and width of what comes out.
        batch_size: Images in a batch; the last may be short.
        seed: Non-negative.
        shuffle: Draw a new order each epoch, or keep the given one.
        augment: Whether to cut and mirror at random.
        device: Where batches go.
        workers: Processes that decode; by default as many as there are processors, at most 16,
            and none for fewer than 1,000 images.

    Raises:
        ArgumentError: A number is out of range.
    """

    def __init__(
        self,
        files: ImageFiles,
        *,
        image_size: int,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        augment: bool = False,
        device: str = "cpu",
        workers: int | None = None,
    ) -> None:
        for name, value, least in (
            ("number of images", len(files), 1),
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("workers", workers or 0, 0),
        ):
            if value < least:
                raise ArgumentError(f"{name}={value} is too small: use {least} or more.")
        self.files = files
        self.image_size = image_size
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.augment = augment
        self.device = device
        few = len(files) < _FEW
        self.workers = workers or (0 if few else min(16, os.cpu_count() or 1))
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches the next iteration yields."""
        self.epoch = epoch

    @property
    def example(self) -> Tensor:
        """The first image, [1, 3, size, size]."""
        return plain_image(self.files.paths[0], self.image_size)[None].to(self.device)

    def plain(self) -> ImageBatches:
        """Return the same data in their own order, without augmentation."""
        return ImageBatches(
            self.files,
            image_size=self.image_size,
            batch_size=self.batch_size,
            shuffle=False,
            device=self.device,
            workers=self.workers,
        )

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return math.ceil(len(self.files) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images [n, 3, size, size] and labels [n] of the epoch set when it began."""
        n = len(self.files)
        order = permutation(n, self.seed, self.epoch, _ORDER) if self.shuffle else np.arange(n)
        loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
            _Decoded(self, self.epoch),
            batch_size=self.batch_size,
            sampler=order.tolist(),
            num_workers=self.workers,
            pin_memory=self.device.startswith("cuda"),
            # Or a seed for the processes would be drawn from the global random state.
            generator=Generator().manual_seed(0),
        )
        for images, labels in loader:
            yield (
                images.to(self.device, non_blocking=True),
                labels.to(self.device, non_blocking=True),
            )


class _Decoded(TorchDataset[tuple[Tensor, Tensor]]):
    def __init__(self, batches: ImageBatches, epoch: int) -> None:
        self.files = batches.files
        self.size = batches.image_size
        self.key = (batches.seed, epoch, _AUGMENT) if batches.augment else None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        path = self.files.paths[index]
        if self.key is None:
            image = plain_image(path, self.size)
        else:
            seed = stream_seed(*self.key, index)
            image = augmented_image(path, self.size, Generator().manual_seed(seed))
        return image, self.files.labels[index]


def plain_image(path: Path, size: int) -> Tensor:
    """Decode the middle of an image, float32 [3, size, size], normalised.

    Raises:
        DataError: It is no readable JPEG or PNG image.
        MissingExtraError: Pillow is not installed.
    """
    image = _open(path)
    scale = round(size * 8 / 7) / min(image.size)
    width, height = (max(size, round(scale * side)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    box = (left, top, left + size, top + size)
    return _normalised(image.resize((width, height), resample=2).crop(box))


def augmented_image(path: Path, size: int, generator: Generator) -> Tensor:
    """Decode a random part of an image, half of the time mirrored; see :func:`plain_image`."""
    image = _open(path)
    width, height = image.size
    box = random_part(width, height, generator)
    part = _normalised(image.crop(box).resize((size, size), resample=2))
    return part.flip(2) if float(torch.rand((), generator=generator)) < 0.5 else part


def random_part(width: int, height: int, generator: Generator) -> Box:
    """Draw a box of 8 % to 100 % of an image's area, its sides at most 4 to 3.

    Returns:
        Left, upper, right and lower ends in pixels; the largest middle box of an allowed shape if
        ten draws do not fit.

    Source: Szegedy et al. 2015 (arXiv 1409.4842), section 6.

    Example:
        >>> left, upper, right, lower = random_part(40, 30, Generator().manual_seed(0))
        >>> 0 <= left < right <= 40, 0 <= upper < lower <= 30
        (True, True)
    """
    for _ in range(10):
        draws = torch.rand(2, generator=generator).tolist()
        area = width * height * (0.08 + 0.92 * draws[0])
        ratio = math.exp((2 * draws[1] - 1) * math.log(4 / 3))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(torch.randint(0, width - w + 1, (), generator=generator))
            upper = int(torch.randint(0, height - h + 1, (), generator=generator))
            return left, upper, left + w, upper + h
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h


def _open(path: Path) -> Any:
    try:
        from PIL import Image  # noqa: PLC0415  (an extra: needed by this reader only)
    except ImportError as error:
        raise MissingExtraError(
            'decoding images needs Pillow: pip install "mirrormask[study]".'
        ) from error
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            return image.convert("RGB")
    # Pillow reports a bad file as an OSError, a ValueError or, from its parsers, a SyntaxError.
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"{path} cannot be decoded ({error}): fetch it again or remove it."
        ) from error


def _normalised(image: Any) -> Tensor:
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1) / 255
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
