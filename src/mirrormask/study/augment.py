"""Training-time changes of image batches, as pure functions of the batch and a generator."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad


def random_crop(
    images: Tensor,
    generator: Generator,
    *,
    padding: int = 4,
    border: Literal["constant", "replicate"] = "constant",
) -> Tensor:
    """Shift each image by up to ``padding`` pixels either way.

    Equals padding every image and cutting it back to its size at a random place (He et al. 2016,
    section 4.2).

    Args:
        images: [n, c, h, w]; left unchanged.
        generator: A CPU generator; the offsets are the same for images on any device.
        padding: Largest shift in pixels, 0 or more.
        border: What moves in: "constant" is 0, the mean colour of normalised images; "replicate"
            repeats the outermost pixels, which suits pictures on a plain background.

    Returns:
        A new tensor of the same shape.

    Example:
        >>> image = torch.arange(9.0).view(1, 1, 3, 3)
        >>> random_crop(image, torch.Generator().manual_seed(0), padding=0).equal(image)
        True
    """
    n, channels, height, width = images.shape
    offsets = torch.randint(0, 2 * padding + 1, (2, n), generator=generator).to(images.device)
    padded = pad(images, (padding, padding, padding, padding), mode=border)
    rows = offsets[0, :, None] + torch.arange(height, device=images.device)
    columns = offsets[1, :, None] + torch.arange(width, device=images.device)
    rows = rows[:, None, :, None].expand(n, channels, height, padded.shape[3])
    columns = columns[:, None, None, :].expand(n, channels, height, width)
    return padded.gather(2, rows).gather(3, columns)


def random_flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each image left to right with probability one half.

    Args:
        images: [n, c, h, w]; left unchanged.
        generator: A CPU generator; the choice is the same for images on any device.

    Returns:
        A new tensor of the same shape.

    Example:
        >>> images = torch.rand(4, 3, 8, 8)
        >>> flipped = random_flip(images, torch.Generator().manual_seed(0))
        >>> flipped.shape == images.shape
        True
    """
    chosen = torch.randint(0, 2, (len(images),), generator=generator).to(images.device).bool()
    return torch.where(chosen[:, None, None, None], images.flip(3), images)


def crop_and_flip(images: Tensor, generator: Generator) -> Tensor:
    """Shift by up to 4 pixels, then mirror half of the images: the usual recipe for CIFAR.

    Source: He et al. 2016 (arXiv 1512.03385), section 4.2.

    Example:
        >>> images = torch.rand(4, 3, 32, 32)
        >>> crop_and_flip(images, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3, 32, 32])
    """
    return random_flip(random_crop(images, generator, padding=4), generator)


def nudge_and_flip(images: Tensor, generator: Generator) -> Tensor:
    """Shift by at most 1 pixel, then mirror half of the images: a light recipe for Fashion-MNIST.

    Example:
        >>> images = torch.rand(4, 1, 28, 28)
        >>> nudge_and_flip(images, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 1, 28, 28])
    """
    return random_flip(random_crop(images, generator, padding=1, border="replicate"), generator)
