"""In-memory batches whose order is a pure function of seed and epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Generator, Tensor

from mirrormask.errors import ArgumentError
from mirrormask.study.order import permutation, stream_seed

Augment = Callable[[Tensor, Generator], Tensor]


class Loader(Protocol):
    """What a training loop asks of its data; :class:`Batches` is one."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches the next iteration yields."""

    def __len__(self) -> int:
        """Count the batches of an epoch."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels on the device of the model."""

    @property
    def example(self) -> Tensor:
        """One image [1, ...], to measure a model with."""

    def plain(self) -> Loader:
        """Return the same data in their own order, without augmentation."""


# Keys that keep the two uses of a seed apart: without them order and augmentation would share
# a stream.
_ORDER, _AUGMENT = 0, 1


class Batches:
    """Iterate over images and labels in batches, reproducibly.

    The order depends on ``seed`` and the epoch only, the augmentation of a batch on ``seed``, the
    epoch and its place in it; neither on the global random state nor on what was iterated before.
    A run that was cut short therefore continues at any epoch with the very batches it would have
    seen. Every sample comes exactly once an epoch; the last batch may be short.

    Any training loop and Lightning's Trainer take it as a data loader. Call :meth:`set_epoch` at
    the start of each epoch: Lightning does so for samplers only.

    Args:
        images: [n, ...]; may live on any device.
        labels: [n].
        batch_size: Samples in a batch.
        seed: Non-negative.
        shuffle: Draw a new order each epoch, or keep the given one.
        augment: Applied to each batch of images with a CPU generator of its own.

    Raises:
        ArgumentError: Lengths differ or are 0, or a size or seed is out of range.

    Example:
        >>> batches = Batches(torch.rand(5, 1, 8, 8), torch.arange(5), batch_size=2, seed=0)
        >>> batches.set_epoch(3)
        >>> len(batches), [len(labels) for images, labels in batches]
        (3, [2, 2, 1])
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        augment: Augment | None = None,
    ) -> None:
        if len(images) != len(labels) or len(images) == 0:
            raise ArgumentError(
                f"{len(images)} images and {len(labels)} labels do not make batches: give equally "
                "many of both, at least one."
            )
        if batch_size < 1:
            raise ArgumentError(f"batch_size={batch_size} is too small: use 1 or more.")
        if seed < 0:
            raise ArgumentError(f"seed={seed} is negative: use an integer of 0 or more.")
        self.images = images
        self.labels = labels
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.augment = augment
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches the next iteration yields.

        Raises:
            ArgumentError: ``epoch`` is negative.
        """
        if epoch < 0:
            raise ArgumentError(f"epoch={epoch} is negative: count epochs from 0.")
        self.epoch = epoch

    @property
    def example(self) -> Tensor:
        """The first image, [1, ...]."""
        return self.images[:1]

    def plain(self) -> Batches:
        """Return the same data in their own order, without augmentation."""
        return Batches(self.images, self.labels, batch_size=self.batch_size, shuffle=False)

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return math.ceil(len(self.images) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(images, labels)`` of one epoch, the one set when the iteration began."""
        epoch = self.epoch
        n = len(self.images)
        if self.shuffle:
            order = torch.from_numpy(permutation(n, self.seed, epoch, _ORDER))
        else:
            order = torch.arange(n)
        order = order.to(self.images.device)
        for place, chosen in enumerate(torch.split(order, self.batch_size)):
            images = self.images[chosen]
            if self.augment is not None:
                # Seeded for each batch, so that no batch depends on those before it.
                seed = stream_seed(self.seed, epoch, _AUGMENT, place)
                images = self.augment(images, Generator().manual_seed(seed))
            yield images, self.labels[chosen.to(self.labels.device)]
