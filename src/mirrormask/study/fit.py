"""A plain, fast training loop for studies: one network, dense or sparse, from start to report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from mirrormask.errors import CheckpointError, NonFiniteError
from mirrormask.optimizer import SparseOptimizer
from mirrormask.report import SparsityReport
from mirrormask.study.batches import Loader
from mirrormask.study.data import Split
from mirrormask.study.run_folder import replacing
from mirrormask.study.training_flops import FlopMeter, ForwardFlops
from mirrormask.study.warmup import warmup_cosine

CHECKPOINT_EVERY = 60.0
"""Seconds of training after which the next end of an epoch is stored."""


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What training leaves beside the network.

    Attributes:
        train_accuracy: Over the batches of the last epoch, each before its step.
        seconds: Of training and of the final cut, summed over resumptions.
        flops: Of training in theory; masked weights cost nothing.
        dense_flops: The same steps without masks.
        state_bytes: Optimizer state, latents and masks, as measured after the last step.
        report: Of the final cut, for a sparse method.
    """

    train_accuracy: float
    seconds: float
    flops: float
    dense_flops: float
    state_bytes: int
    report: SparsityReport | None


def fit(
    model: nn.Module,
    batches: Loader,
    optimizer: Optimizer,
    *,
    epochs: int,
    checkpoint: Path | None = None,
    rates: Callable[[int, int], float] = warmup_cosine,
    label_smoothing: float = 0.0,
) -> FitResult:
    """Train a network with cross-entropy, and finalise it if its optimizer is a sparse one.

    The schedule of the learning rate begins anew in each phase of a method that has several. All
    random draws come from torch's global state, which a checkpoint holds.

    Args:
        model: Gives class scores [n, classes], or [n, length, classes] for sequences.
        batches: Training data; labels [n] or [n, length].
        optimizer: Any, or what ``mirrormask.sparsify`` returned for exactly these steps; the
            learning rates of its groups are the peaks.
        epochs: Passes over the data.
        checkpoint: File for the state of a long run, replaced about once a minute at the end of an
            epoch, removed at the end; if it exists, the run goes on from it, bit for bit.
        rates: Takes a step and the number of steps and returns the factor on the peak learning
            rate; a linear rise, then half a cosine by default.
        label_smoothing: Share of each label that is spread over all classes.

    Raises:
        NonFiniteError: If the loss is not finite.
        CheckpointError: If the checkpoint is damaged or of another run.
        OutputError: If the checkpoint cannot be written.
    """
    run = _Run(model, batches, optimizer, epochs)
    run.rates, run.label_smoothing = rates, label_smoothing
    if checkpoint is not None and checkpoint.exists():
        run.load(checkpoint)
    stored = time.perf_counter()
    while run.epoch < epochs:
        run.train_epoch()
        if checkpoint is None or time.perf_counter() - stored < CHECKPOINT_EVERY:
            continue
        run.save(checkpoint)
        stored = time.perf_counter()
    result = run.finish()
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return result


class _Run:
    def __init__(
        self, model: nn.Module, batches: Loader, optimizer: Optimizer, epochs: int
    ) -> None:
        self.model = model
        self.batches = batches
        self.optimizer = optimizer
        self.sparse = optimizer if isinstance(optimizer, SparseOptimizer) else None
        self.steps = epochs * len(batches)
        self.peaks = [float(group["lr"]) for group in optimizer.param_groups]
        self.rates: Callable[[int, int], float] = warmup_cosine
        self.label_smoothing = 0.0
        self.epoch = 0
        self.step = 0
        self.train_accuracy = 0.0
        self.seconds = 0.0
        self.meter = FlopMeter(ForwardFlops.of(model, batches.example))
        if self.sparse is not None:
            self.meter.look(self.sparse)

    def train_epoch(self) -> None:
        """Go through the data once."""
        began = time.perf_counter()
        self.model.train()
        self.batches.set_epoch(self.epoch)
        hits: Tensor | int = 0
        seen = 0
        for images, labels in self.batches:
            factor = self._rate_factor()
            for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
                group["lr"] = peak * factor
            scores = self.model(images).flatten(0, -2)
            targets = labels.flatten()
            loss = F.cross_entropy(scores, targets, label_smoothing=self.label_smoothing)
            if not math.isfinite(float(loss.detach())):
                raise NonFiniteError(
                    f"The loss became {float(loss.detach())} in step {self.step + 1} of "
                    f"{self.steps}: lower the learning rate (lr={self.peaks[0]:g})."
                )
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.step += 1
            self.meter.step(len(images))
            self._look_at_masks()
            hits += (scores.detach().argmax(1) == targets).sum()
            seen += len(targets)
        self.epoch += 1
        self.train_accuracy = int(hits) / seen
        if self.sparse is not None:
            self.sparse.observe(self.train_accuracy)
        self.seconds += time.perf_counter() - began

    def finish(self) -> FitResult:
        """Cut, and say what the run took."""
        began = time.perf_counter()
        size = state_bytes(self.optimizer, self.model)
        report = None
        if self.sparse is not None:
            report = self.sparse.finalize(self.batches.plain())
        self.model.eval()
        return FitResult(
            train_accuracy=self.train_accuracy,
            seconds=self.seconds + time.perf_counter() - began,
            flops=self.meter.flops,
            dense_flops=self.meter.dense,
            state_bytes=size,
            report=report,
        )

    def save(self, path: Path) -> None:
        """Store all that a resumed run needs."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "peaks": self.peaks,
            "steps": self.steps,
            "epoch": self.epoch,
            "step": self.step,
            "train_accuracy": self.train_accuracy,
            "seconds": self.seconds,
            "flops": self.meter.flops,
            "examples": self.meter.examples,
            "random": torch.get_rng_state(),
        }
        with replacing(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        """Go on from what :meth:`save` stored."""
        try:
            state = torch.load(path, weights_only=True)
            own = (state["steps"], state["peaks"])
        except Exception as error:
            raise CheckpointError(
                f"{path} is damaged ({error}): delete it to train from the start."
            ) from error
        if own != (self.steps, self.peaks):
            raise CheckpointError(
                f"{path} is of a run of {own[0]} steps at lr={own[1][0]:g}, not of {self.steps} at "
                f"{self.peaks[0]:g}: delete it to train from the start."
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.train_accuracy, self.seconds = state["train_accuracy"], state["seconds"]
        self.meter.flops, self.meter.examples = state["flops"], state["examples"]
        torch.set_rng_state(state["random"])
        if self.sparse is not None:
            self.meter.look(self.sparse)

    def _rate_factor(self) -> float:
        if self.sparse is None:
            return self.rates(self.step, self.steps)
        first, length = self.sparse.recipe.masking.phase(self.step, self.steps)
        return self.rates(self.step - first, length)

    def _look_at_masks(self) -> None:
        if self.sparse is None:
            return
        masking = self.sparse.recipe.masking
        if masking.cut_after(self.step, self.steps, self.sparse.sparsity) is not None:
            self.meter.look(self.sparse)


def state_bytes(optimizer: Optimizer, model: nn.Module) -> int:
    """Return the bytes of all tensors that an optimizer keeps beside the model's own.

    Tensors that share memory are counted once.

    Example:
        >>> layer = nn.Linear(10, 10, bias=False)
        >>> momentum = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
        >>> layer(torch.rand(1, 10)).sum().backward()
        >>> momentum.step()
        >>> state_bytes(momentum, layer)
        400
    """
    own = {t.untyped_storage().data_ptr() for t in model.state_dict().values()}
    found = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in _tensors(optimizer.state_dict())
    }
    return sum(size for pointer, size in found.items() if pointer not in own)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def evaluate(model: nn.Module, split: Split, batch_size: int = 500) -> tuple[float, float]:
    """Return accuracy and mean cross-entropy over all labels of a split."""
    parts = zip(split.images.split(batch_size), split.labels.split(batch_size), strict=True)  # type: ignore[no-untyped-call]
    return evaluate_batches(model, parts)


@torch.no_grad()
def evaluate_batches(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[float, float]:
    """Return accuracy and mean cross-entropy over all labels of some batches, at least one."""
    model.eval()
    hits, seen, loss = 0, 0, 0.0
    for images, labels in batches:
        scores = model(images).flatten(0, -2)
        targets = labels.flatten()
        hits += int((scores.argmax(1) == targets).sum())
        loss += float(F.cross_entropy(scores, targets, reduction="sum"))
        seen += len(targets)
    return hits / seen, loss / seen
