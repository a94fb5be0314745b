"""Images as their files hold them: bytes and labels, checked, before any choice is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirrormask.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class RawImages:
    """A data set as read: a training and a test part of byte images, with labels.

    Attributes:
        source: What was read, for error messages: a file or folder.
        train_images: uint8 array [n, c, h, w].
        train_labels: int64 array [n].
        test_images: uint8 array [m, c, h, w] of the same c, h, w.
        test_labels: int64 array [m].
        classes: Name of each class; labels are indices into it.
        full_scale: The byte that means 1.0.

    Raises:
        DataError: Counts, shapes or labels contradict each other.

    Example:
        >>> images, labels = np.zeros((2, 1, 8, 8), np.uint8), np.array([0, 1])
        >>> raw = RawImages(source="example", train_images=images, train_labels=labels,
        ...                 test_images=images, test_labels=labels, classes=("a", "b"))
        >>> raw.full_scale
        255
    """

    source: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    full_scale: int = 255

    def __post_init__(self) -> None:
        for part, images, labels in (
            ("training", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            if images.ndim != 4 or images.dtype != np.uint8 or images.shape[2] != images.shape[3]:
                raise DataError(
                    f"{self.source} holds {part} images of shape {images.shape} and type "
                    f"{images.dtype}, not square byte images; check that it is the right data."
                )
            if labels.shape != images.shape[:1]:
                raise DataError(
                    f"{self.source} holds {len(images)} {part} images but {labels.size} labels; "
                    "fetch the files again, all from the same place."
                )
            if len(labels) == 0:
                raise DataError(f"{self.source} holds no {part} images; fetch the files again.")
            if labels.min() < 0 or labels.max() >= len(self.classes):
                raise DataError(
                    f"{self.source} has the {part} labels {labels.min()} to {labels.max()}, but "
                    f"there are {len(self.classes)} classes; check that it is the right data."
                )
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DataError(
                f"{self.source} holds training images of shape {self.train_images.shape[1:]} but "
                f"test images of shape {self.test_images.shape[1:]}; check that they belong "
                "together."
            )
