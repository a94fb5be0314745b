"""Load image data sets, split and normalised, ready for a model.

``load(name)`` is all that most callers need; :data:`DATASETS` lists the names. The order of a
training run is the business of :class:`mirrormask.study.batches.Batches`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirrormask.errors import ArgumentError, DataError
from mirrormask.names import unknown_name
from mirrormask.study.augment import crop_and_flip, nudge_and_flip
from mirrormask.study.batches import Augment
from mirrormask.study.cifar import read_cifar10_jpeg
from mirrormask.study.digits import read_digits
from mirrormask.study.download import cache_folder
from mirrormask.study.fashion import read_subset, read_whole
from mirrormask.study.order import stratified
from mirrormask.study.raw import RawImages

DEFAULT = "fashion-mnist-10k"


class Split(NamedTuple):
    """One part of a data set: ``images, labels = split``.

    Attributes:
        images: float32 tensor [n, c, h, w], normalised.
        labels: int64 tensor [n].
    """

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Images and labels of one data set, split and normalised.

    Attributes:
        name: The name it was loaded by.
        train: What a model may learn from.
        validation: Held out of the training images: what choices may be made on; may be empty.
        test: For the very end.
        classes: Name of each class; labels are indices into it.
        mean: Mean of each channel over ``train``, on the scale where white is 1.
        std: Standard deviation of each channel, on the same scale.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def in_channels(self) -> int:
        """Channels of an image: 1 for grey, 3 for colour."""
        return self.train.images.shape[1]

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""
        return self.train.images.shape[2]

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """How one named data set is found: a line for people and a reader for the program.

    Attributes:
        summary: One line for help texts and tables.
        read: Takes ``root`` and ``cache`` and reads the raw images.
        takes_root: Whether ``root`` means anything to the reader.
        augment: What training runs do to its batches, if anything.
    """

    summary: str
    read: Callable[[Path | None, Path], RawImages]
    takes_root: bool = True
    augment: Augment | None = None


DATASETS: Mapping[str, DatasetRecord] = MappingProxyType(
    {
        DEFAULT: DatasetRecord(
            summary="Fashion-MNIST, 10,000 + 2,000 grey images of 28x28, packaged: always there",
            read=lambda root, cache: read_subset(),
            takes_root=False,
            augment=nudge_and_flip,
        ),
        "fashion-mnist": DatasetRecord(
            summary="Fashion-MNIST whole, 60,000 + 10,000: a folder, Debian package, or download",
            read=read_whole,
            augment=nudge_and_flip,
        ),
        "cifar10-jpeg": DatasetRecord(
            summary="CIFAR-10 (JPEG), 50,000 + 10,000 colour images of 32x32, from a local archive",
            read=read_cifar10_jpeg,
            augment=crop_and_flip,
        ),
        "digits": DatasetRecord(
            summary="scikit-learn's digits, 1,437 + 360 grey images of 8x8",
            read=lambda root, cache: read_digits(),
            takes_root=False,
        ),
    }
)


def load(
    name: str = DEFAULT,
    *,
    root: Path | str | None = None,
    cache: Path | str | None = None,
    validation: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """Load a data set by name, hold out a validation part, and normalise.

    The validation images are taken out of the training images by class, chosen by ``seed`` alone.
    Mean and standard deviation come from the training images that remain.

    Args:
        name: One of :data:`DATASETS`.
        root: Folder or file with the data, for those sets that are not packaged.
        cache: Folder for downloads and decoded images; by default $MIRRORMASK_CACHE, or else
            ~/.cache/mirrormask.
        validation: Share of the training images to hold out, in [0, 1), rounded to whole images.
        seed: Non-negative; another seed holds out other images. The test part never depends on it.

    Returns:
        The data set, in main memory, on the CPU.

    Raises:
        ArgumentError: ``validation`` or ``seed`` is out of range, or ``root`` is given for a set
            that is not read from a folder.
        DataError: No such data set, or its files are missing, damaged or contradictory.
        MissingExtraError: The set needs a library that is not installed.
        OutputError: A download cannot be written to the cache.

    Example:
        >>> data = load("fashion-mnist-10k", validation=0.1)
        >>> data.train.images.shape, data.validation.labels.shape
        (torch.Size([9000, 1, 28, 28]), torch.Size([1000]))
        >>> data.classes[int(data.test.labels[0])] in data.classes
        True
    """
    record = DATASETS.get(name)
    if record is None:
        raise DataError(unknown_name("data", name, DATASETS))
    if root is not None and not record.takes_root:
        raise ArgumentError(
            f"root={str(root)!r} has no meaning for {name!r}, which is not read from a folder; "
            "leave it out."
        )
    if not 0.0 <= validation < 1.0:
        raise ArgumentError(
            f"validation={validation} is not a share of the training images: use 0 ≤ share < 1."
        )
    place = None if root is None else Path(root).expanduser()
    raw = record.read(place, cache_folder(cache))
    return _prepare(name, raw, validation, seed)


def _prepare(name: str, raw: RawImages, validation: float, seed: int) -> Dataset:
    n = len(raw.train_labels)
    size = round(validation * n)
    if size == n:
        raise ArgumentError(
            f"validation={validation} leaves none of the {n} training images: use a smaller share."
        )
    held_out = np.zeros(n, dtype=bool)
    held_out[stratified(raw.train_labels, size, seed)] = True
    mean, std = channel_moments(raw.train_images[~held_out])

    def split(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Split:
        return Split(_normalise(images, mean, std), torch.from_numpy(labels.copy()))

    return Dataset(
        name=name,
        train=split(raw.train_images[~held_out], raw.train_labels[~held_out]),
        validation=split(raw.train_images[held_out], raw.train_labels[held_out]),
        test=split(raw.test_images, raw.test_labels),
        classes=raw.classes,
        mean=tuple(m / raw.full_scale for m in mean),
        std=tuple(s / raw.full_scale for s in std),
    )


def channel_moments(images: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of byte images [n, c, h, w], in byte units.

    They are computed from counts of the 256 values, in integers, so that no order of summation
    can change a bit. A channel without any variation gets a deviation of 1.

    Example:
        >>> channel_moments(np.array([[[[0, 2]]]], dtype=np.uint8))
        ([1.0], [1.0])
    """
    means, deviations = [], []
    levels = np.arange(256, dtype=np.int64)
    for channel in range(images.shape[1]):
        counts = np.bincount(images[:, channel].ravel(), minlength=256)
        total = int(counts.sum())
        first, second = int((counts * levels).sum()), int((counts * levels**2).sum())
        means.append(first / total)
        deviations.append(((total * second - first * first) / total**2) ** 0.5 or 1.0)
    return means, deviations


def _normalise(images: NDArray[np.uint8], mean: list[float], std: list[float]) -> Tensor:
    shape = (1, -1, 1, 1)
    result = torch.from_numpy(images.astype(np.float32))
    result.sub_(torch.tensor(mean, dtype=torch.float32).view(shape))
    return result.div_(torch.tensor(std, dtype=torch.float32).view(shape))
