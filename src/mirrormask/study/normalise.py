"""Normalisation of byte images: moments that no order of summation can change."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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


def normalise(images: NDArray[np.uint8], mean: list[float], std: list[float]) -> Tensor:
    """Return byte images [n, c, h, w] as float32, each channel less its mean over its deviation.

    Args:
        images: In byte units.
        mean: Of each channel, in byte units.
        std: Of each channel, in byte units, positive.

    Example:
        >>> normalise(np.array([[[[0, 2]]]], dtype=np.uint8), [1.0], [2.0]).tolist()
        [[[[-0.5, 0.5]]]]
    """
    shape = (1, -1, 1, 1)
    result = torch.from_numpy(images.astype(np.float32))
    result.sub_(torch.tensor(mean, dtype=torch.float32).view(shape))
    return result.div_(torch.tensor(std, dtype=torch.float32).view(shape))
