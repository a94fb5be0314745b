"""Load data sets of images, signals or text, split and normalised, ready for a model.

``load(name)`` is all that most callers need; :data:`DATASETS` lists the names. The order of a
training run is the business of :class:`mirrormask.study.batches.Batches`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirrormask.errors import ArgumentError, DataError
from mirrormask.names import unknown_name
from mirrormask.study.augment import crop_and_flip, nudge_and_flip
from mirrormask.study.batches import Augment
from mirrormask.study.cifar import read_cifar10_jpeg
from mirrormask.study.cifar_batches import read_cifar10, read_cifar100
from mirrormask.study.digits import read_digits
from mirrormask.study.download import cache_folder
from mirrormask.study.fashion import read_subset, read_whole
from mirrormask.study.mnist1d import read_mnist1d
from mirrormask.study.normalise import channel_moments, normalise
from mirrormask.study.order import permutation, stratified
from mirrormask.study.raw import RawImages
from mirrormask.study.sequences import Sequences
from mirrormask.study.text import read_stdlib_text

DEFAULT = "fashion-mnist-10k"

Kind = Literal["images", "signals", "text"]
"""What a model is given: images [n, c, h, w], signals [n, c, length] or tokens [n, length]."""


class Split(NamedTuple):
    """One part of a data set: ``images, labels = split``.

    Attributes:
        images: float32 tensor [n, c, h, w], normalised; of signals [n, c, length], and of text an
            int64 tensor of tokens [n, length].
        labels: int64 tensor [n]; of text [n, length], the token that follows each.
    """

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Images, signals or texts of one data set with labels, split and normalised.

    Attributes:
        name: The name it was loaded by.
        kind: What it consists of.
        train: What a model may learn from.
        validation: Held out of the training images: what choices may be made on; may be empty.
        test: For the very end.
        classes: Name of each class; labels are indices into it, and so are tokens of text.
        mean: What was taken off each channel: its mean over ``train``, on the scale where white is
            1; empty for signals and text, which are left as they come.
        std: What each channel was divided by, its standard deviation on the same scale; or empty.
    """

    name: str
    kind: Kind
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def in_channels(self) -> int:
        """Channels of an image or signal: 1 for grey, 3 for colour; of text, different tokens."""
        return self.num_classes if self.kind == "text" else self.train.images.shape[1]

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels, or the length of a signal or text."""
        return self.train.images.shape[-1]

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """How one named data set is found: a line for people and a reader for the program.

    Attributes:
        summary: One line for help texts and tables.
        read: Takes ``root`` and ``cache`` and reads the raw data.
        kind: What it consists of.
        takes_root: Whether ``root`` means anything to the reader.
        augment: What training runs do to its batches, if anything.
        streamed: Whether it is decoded while it is used (comparisons do so) and never loaded.
    """

    summary: str
    read: Callable[[Path | None, Path], RawImages | Sequences]
    kind: Kind = "images"
    takes_root: bool = True
    augment: Augment | None = None
    streamed: bool = False


def _not_loaded(root: Path | None, cache: Path) -> RawImages:
    raise ArgumentError(
        "Images in folders are decoded while they are used and never loaded whole, which only "
        "'mirrormask compare' does: train with that, or choose other data."
    )


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
        "cifar10": DatasetRecord(
            summary="CIFAR-10, 50,000 + 10,000, from its authors' pickled batches or archive",
            read=lambda root, cache: read_cifar10(root),
            augment=crop_and_flip,
        ),
        "cifar100": DatasetRecord(
            summary="CIFAR-100, 50,000 + 10,000, from its authors' pickled batches or archive",
            read=lambda root, cache: read_cifar100(root),
            augment=crop_and_flip,
        ),
        "image-folder": DatasetRecord(
            summary="JPEG or PNG files in train/CLASS and val/CLASS, such as ImageNet's; streamed",
            read=_not_loaded,
            streamed=True,
        ),
        "digits": DatasetRecord(
            summary="scikit-learn's digits, 1,437 + 360 grey images of 8x8",
            read=lambda root, cache: read_digits(),
            takes_root=False,
        ),
        "mnist1d": DatasetRecord(
            summary="MNIST-1D, 4,000 + 1,000 generated signals of 40 values",
            read=lambda root, cache: read_mnist1d(),
            kind="signals",
            takes_root=False,
        ),
        "stdlib-text": DatasetRecord(
            summary="source code of Python's library, 4,000 + 800 texts of 64 characters",
            read=lambda root, cache: read_stdlib_text(),
            kind="text",
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
    Mean and standard deviation come from the training images that remain. Signals are treated the
    same but left on their scale; texts have no class and are chosen freely.

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


def _prepare(name: str, raw: RawImages | Sequences, validation: float, seed: int) -> Dataset:
    n = len(raw.train_labels)
    size = round(validation * n)
    if size == n:
        raise ArgumentError(
            f"validation={validation} leaves none of the {n} training images: use a smaller share."
        )
    held_out = np.zeros(n, dtype=bool)
    if raw.train_labels.ndim == 1:
        held_out[stratified(raw.train_labels, size, seed)] = True
    else:
        held_out[permutation(n, seed)[:size]] = True
    if isinstance(raw, Sequences):
        return _split_sequences(name, raw, held_out)
    return _split_images(name, raw, held_out)


def _split_images(name: str, raw: RawImages, held_out: NDArray[np.bool_]) -> Dataset:
    mean, std = channel_moments(raw.train_images[~held_out])

    def split(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Split:
        return Split(normalise(images, mean, std), torch.from_numpy(labels.copy()))

    return Dataset(
        name=name,
        kind="images",
        train=split(raw.train_images[~held_out], raw.train_labels[~held_out]),
        validation=split(raw.train_images[held_out], raw.train_labels[held_out]),
        test=split(raw.test_images, raw.test_labels),
        classes=raw.classes,
        mean=tuple(m / raw.full_scale for m in mean),
        std=tuple(s / raw.full_scale for s in std),
    )


def _split_sequences(name: str, raw: Sequences, held_out: NDArray[np.bool_]) -> Dataset:
    def split(inputs: NDArray[Any], labels: NDArray[np.int64]) -> Split:
        return Split(torch.from_numpy(inputs.copy()), torch.from_numpy(labels.copy()))

    return Dataset(
        name=name,
        kind=DATASETS[name].kind,
        train=split(raw.train_inputs[~held_out], raw.train_labels[~held_out]),
        validation=split(raw.train_inputs[held_out], raw.train_labels[held_out]),
        test=split(raw.test_inputs, raw.test_labels),
        classes=raw.classes,
        mean=(),
        std=(),
    )
