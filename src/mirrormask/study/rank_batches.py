"""One rank's share of each batch: all ranks together see the batches of one process."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.study.batches import Batches


class RankBatches:
    """Take every ``ranks``-th sample of each batch, so that shares are equal.

    Averaging gradients over ranks is averaging over samples only where shares are equal. So the
    samples of the last batch of an epoch that cannot be shared out evenly, fewer than there are
    ranks, sit this epoch out; with another order they are others in the next.

    Args:
        batches: Whole batches, the same on all ranks.
        rank: Of this process, from 0.
        ranks: Their number.

    Raises:
        ArgumentError: If a batch cannot be shared out evenly, or nothing would be left.

    Example:
        >>> import torch
        >>> whole = Batches(torch.zeros(7, 1), torch.arange(7), batch_size=4, shuffle=False)
        >>> [labels.tolist() for _, labels in RankBatches(whole, rank=1, ranks=2)]
        [[1, 3], [5]]
    """

    def __init__(self, batches: Batches, *, rank: int, ranks: int) -> None:
        if batches.batch_size % ranks:
            raise ArgumentError(
                f"batch_size={batches.batch_size} is no multiple of {ranks} ranks: use one that "
                "is; it is the size of the batch that they share."
            )
        if len(batches.images) < ranks:
            raise ArgumentError(f"{len(batches.images)} samples are too few for {ranks} ranks.")
        self.batches = batches
        self.rank = rank
        self.ranks = ranks

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches the next iteration yields."""
        self.batches.set_epoch(epoch)

    @property
    def example(self) -> Tensor:
        """The first image, [1, ...]."""
        return self.batches.example

    def plain(self) -> Batches:
        """Return all data in their own order, without augmentation, on every rank."""
        return self.batches.plain()

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        size, count = self.batches.batch_size, len(self.batches.images)
        return math.ceil((count - count % size % self.ranks) / size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this rank's ``(images, labels)`` of one epoch."""
        for images, labels in self.batches:
            shared = len(labels) - len(labels) % self.ranks
            own = slice(self.rank, shared, self.ranks)
            if shared:
                yield images[own], labels[own]
