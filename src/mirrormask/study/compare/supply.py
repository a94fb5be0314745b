"""What runs are trained and judged on, be the data in memory or streamed from a disk."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from mirrormask.study.batches import Batches, Loader
from mirrormask.study.compare.plan import Phase
from mirrormask.study.compare.problem import Problem
from mirrormask.study.data import DATASETS, Dataset, Split
from mirrormask.study.fit import evaluate, evaluate_batches
from mirrormask.study.image_batches import ImageBatches
from mirrormask.study.image_folder import ImageFolder, first_images
from mirrormask.study.order import stratified

Data = Dataset | ImageFolder

JUDGED_AT_ONCE = 250
"""Streamed images in a batch that is only evaluated."""


def limited(data: Data, images: int | None) -> Data:
    """Return the data with at most so many training images, evenly from all classes."""
    if images is None:
        return data
    if isinstance(data, ImageFolder):
        return first_images(data, images)
    labels = data.train.labels
    count = min(images, len(labels))
    # Texts have no class of their own.
    even = stratified(labels.numpy(), count, 0) if labels.ndim == 1 else range(count)
    chosen = torch.as_tensor(list(even))
    return replace(data, train=Split(data.train.images[chosen], labels[chosen]))


def training_batches(data: Data, problem: Problem, seed: int, device: str) -> Loader:
    """Return the training data in the order, and with the augmentation, of a seed."""
    if isinstance(data, ImageFolder):
        return ImageBatches(
            data.train,
            image_size=data.image_size,
            batch_size=problem.batch_size,
            seed=seed,
            augment=problem.augment,
            device=device,
        )
    return Batches(
        *_on(data.train, device),
        batch_size=problem.batch_size,
        seed=seed,
        augment=DATASETS[problem.data].augment if problem.augment else None,
    )


def judge(model: nn.Module, data: Data, phase: Phase, device: str) -> tuple[float, float]:
    """Return accuracy and loss on what judges a phase: held-out or test data."""
    judged = data.validation if phase == "tuning" else data.test
    if isinstance(judged, Split):
        return evaluate(model, _on(judged, device))
    assert isinstance(data, ImageFolder)
    batches = ImageBatches(
        judged,
        image_size=data.image_size,
        batch_size=JUDGED_AT_ONCE,
        shuffle=False,
        device=device,
    )
    return evaluate_batches(model, batches)


def _on(split: Split, device: str) -> Split:
    return Split(split.images.to(device), split.labels.to(device))
