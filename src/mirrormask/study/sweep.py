"""What a finished network keeps when it is cut at other levels, without any more training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from mirrormask.masking import keep_largest, zeros_asked
from mirrormask.selection import select
from mirrormask.study.batches import Batches
from mirrormask.study.data import Dataset, Split
from mirrormask.study.fit import evaluate
from mirrormask.study.run_folder import write_text

LEVELS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
SWEEP = "sweep.json"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Accuracy on held-out images against the level of a one-shot cut.

    Attributes:
        levels: Fractions of zeros.
        accuracies: One for each.
    """

    levels: list[float]
    accuracies: list[float]


def sweep(
    model: nn.Module,
    data: Dataset,
    *,
    batch_size: int,
    seed: int,
    levels: Sequence[float] = LEVELS,
    refresh_images: int = 2000,
) -> Sweep:
    """Cut the smallest weights at each level in turn, and evaluate; the model is put back.

    BatchNorm statistics are re-estimated after each cut. The images are the validation part, or
    training images where nothing was held out: never the test part.

    Args:
        model: A finished network.
        data: The data that it was trained on.
        batch_size: Images in a batch of the re-estimation.
        seed: Of their order.
        levels: Fractions of zeros, each in [0, 1).
        refresh_images: Training images for the re-estimation.
    """
    split = data.validation if len(data.validation.labels) else data.train
    refresh = Split(data.train.images[:refresh_images], data.train.labels[:refresh_images])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors = [target.parameter for target in select(model)]
    weights = sum(tensor.numel() for tensor in tensors)
    accuracies = []
    for level in levels:
        with torch.no_grad():
            kept = keep_largest([t.abs() for t in tensors], zeros_asked(level, weights))
            for tensor, keep in zip(tensors, kept, strict=True):
                tensor.masked_fill_(~keep, 0)
        update_bn(Batches(*refresh, batch_size=batch_size, seed=seed), model)
        accuracies.append(evaluate(model, split)[0])
        model.load_state_dict(before)
    return Sweep(levels=list(levels), accuracies=accuracies)


def sweep_once(folder: Path, model: nn.Module, data: Dataset, batch_size: int, seed: int) -> Sweep:
    """Return the sweep stored in a folder, or make and store it."""
    path = folder / SWEEP
    if not path.exists():
        found = sweep(model, data, batch_size=batch_size, seed=seed)
        write_text(path, json.dumps(asdict(found)))
    return Sweep(**json.loads(path.read_text(encoding="utf-8")))
