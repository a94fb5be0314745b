"""The small handwritten digits that come with scikit-learn: 1,797 grey images of 8x8."""

from __future__ import annotations

import numpy as np

from mirrormask.errors import MissingExtraError
from mirrormask.study.order import stratified
from mirrormask.study.raw import RawImages

TEST_SIZE = 360


def read_digits() -> RawImages:
    """Read scikit-learn's digits, 1,437 for training and a fixed 360 for testing.

    The set has no test part of its own: one is cut off here, by class and by a constant key, so
    that no seed of an experiment can change what it is tested on.

    Raises:
        MissingExtraError: scikit-learn is not installed.

    Example:
        >>> read_digits().test_images.shape
        (360, 1, 8, 8)
    """
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415  (an extra: this reader only)
    except ImportError as error:
        raise MissingExtraError(
            'the digits come with scikit-learn: pip install "mirrormask[lab]".'
        ) from error
    bunch = load_digits()
    images = np.asarray(bunch.images).astype(np.uint8)[:, None]
    labels = np.asarray(bunch.target).astype(np.int64)
    test = np.zeros(len(labels), dtype=bool)
    test[stratified(labels, TEST_SIZE, 0)] = True
    return RawImages(
        source="scikit-learn's digits",
        train_images=images[~test],
        train_labels=labels[~test],
        test_images=images[test],
        test_labels=labels[test],
        classes=tuple("0123456789"),
        full_scale=16,
    )
