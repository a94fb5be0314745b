"""Images in folders named by their class, as ImageNet lies on a disk: decoded while they are used.

Only file names are kept in memory, so a data set may be of any size.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mirrormask.errors import ArgumentError, DataError
from mirrormask.study.order import stratified

SUFFIXES = (".jpg", ".jpeg", ".png")
_TEST_FOLDERS = ("val", "test")


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageFiles:
    """Paths and labels of images.

    Attributes:
        paths: One an image.
        labels: int64 tensor [n].
    """

    paths: tuple[Path, ...]
    labels: Tensor

    def __len__(self) -> int:
        """Count the images."""
        return len(self.paths)

    def some(self, chosen: Tensor) -> ImageFiles:
        """Return those at some places, int64 [m]."""
        return ImageFiles(
            paths=tuple(self.paths[i] for i in chosen.tolist()), labels=self.labels[chosen]
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageFolder:
    """A data set of image files with the sizes that a model is made for.

    Attributes:
        train: What a model may learn from.
        validation: Held out of it; may be empty.
        test: For the very end.
        classes: Name of each class, the folder's; labels are indices into it.
        image_size: Height and width that images are brought to.
    """

    train: ImageFiles
    validation: ImageFiles
    test: ImageFiles
    classes: tuple[str, ...]
    image_size: int = 224

    @property
    def in_channels(self) -> int:
        """Three: every image is decoded as RGB."""
        return 3

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)


def load_image_folder(
    root: Path | str | None, *, validation: float = 0.1, seed: int = 0, image_size: int = 224
) -> ImageFolder:
    """List the images of ``root/train/CLASS/`` and ``root/val/CLASS/`` (or ``root/test``).

    Classes are numbered in the order of their names, as torchvision's ``ImageFolder`` does, and
    files are JPEG or PNG.

    Args:
        root: The folder.
        validation: Share of the training images to hold out, by class, in [0, 1).
        seed: Non-negative; another seed holds out other images.
        image_size: Height and width that images are brought to.

    Raises:
        ArgumentError: ``validation`` is out of range.
        DataError: Folders are missing, empty, or do not belong together.
    """
    if not 0.0 <= validation < 1.0:
        raise ArgumentError(
            f"validation={validation} is not a share of the training images: use 0 ≤ share < 1."
        )
    if root is None:
        raise DataError("no place was given for the images; pass root=, the folder above 'train'.")
    place = Path(root).expanduser()
    found = [place / name for name in _TEST_FOLDERS if (place / name).is_dir()]
    if not (place / "train").is_dir() or not found:
        raise DataError(
            f"{place} has no folders 'train' and 'val' (or 'test'), each with a folder a class; "
            "pass the folder above them as root=."
        )
    classes = _folders(place / "train")
    if _folders(found[0]) != classes:
        raise DataError(
            f"{place / 'train'} and {found[0]} hold folders of different names; each class needs "
            "one in both. ImageNet's validation images have to be sorted into folders first."
        )
    every, test = _list(place / "train", classes), _list(found[0], classes)
    size = round(validation * len(every))
    held_out = torch.zeros(len(every), dtype=torch.bool)
    held_out[torch.from_numpy(stratified(every.labels.numpy(), size, seed))] = True
    return ImageFolder(
        train=every.some((~held_out).nonzero().flatten()),
        validation=every.some(held_out.nonzero().flatten()),
        test=test,
        classes=classes,
        image_size=image_size,
    )


def first_images(data: ImageFolder, images: int) -> ImageFolder:
    """Return the data set with so many training images, evenly from all classes."""
    labels = data.train.labels.numpy()
    chosen = torch.from_numpy(stratified(labels, min(images, len(labels)), 0))
    return replace(data, train=data.train.some(chosen))


def _folders(place: Path) -> tuple[str, ...]:
    with os.scandir(place) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    if len(names) < 2:
        raise DataError(
            f"{place} holds {len(names)} folders; there must be one a class, at least 2."
        )
    return tuple(names)


def _list(place: Path, classes: tuple[str, ...]) -> ImageFiles:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        with os.scandir(place / name) as entries:
            files = sorted(e.name for e in entries if e.name.lower().endswith(SUFFIXES))
        if not files:
            raise DataError(
                f"{place / name} holds no image; put files ending in {', '.join(SUFFIXES)} there, "
                "or remove the folder."
            )
        paths += [place / name / file for file in files]
        labels += [label] * len(files)
    return ImageFiles(paths=tuple(paths), labels=torch.from_numpy(np.array(labels, dtype=np.int64)))
