"""One training run as Lightning sees it: the module, its optimizer and its schedule."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F

import mirrormask as mm
from mirrormask.errors import NonFiniteError
from mirrormask.methods import method as find_method
from mirrormask.study.warmup import warmup_cosine


class Classification(LightningModule):
    """Trains a classifier with SGD, dense or through :func:`mirrormask.sparsify`.

    Args:
        model: Gives class scores [n, classes], or [n, length, classes] for text.
        steps: Optimizer steps in the whole run.
        lr: Peak learning rate.
        momentum: Of SGD.
        weight_decay: L2 of SGD; sparse methods switch it off where it would be a second penalty.
        method: A registered method, or None for dense training.
        sparsity: Fraction of zeros, if there is a method.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        steps: int,
        lr: float,
        momentum: float,
        weight_decay: float,
        method: str | None,
        sparsity: float,
    ) -> None:
        super().__init__()
        self.model = model
        self.steps = steps
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.method = method
        self.sparsity = sparsity
        self.sparse_optimizer: mm.SparseOptimizer | None = None
        self._hits = torch.zeros((), dtype=torch.int64)
        self._seen = 0

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer and its schedule by the step."""
        decay = self.weight_decay
        if self.method is not None and not find_method(self.method).keeps_weight_decay:
            decay = 0.0  # the pressure takes its place
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.model.parameters() if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in self.model.parameters() if p.ndim <= 1]},
        ]
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            groups, lr=self.lr, momentum=self.momentum
        )
        if self.method is not None:
            self.sparse_optimizer = mm.sparsify(
                optimizer, self.model, sparsity=self.sparsity, steps=self.steps, method=self.method
            )
            optimizer = self.sparse_optimizer
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_cosine(step, self.steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the cross-entropy of a batch."""
        images, labels = batch
        scores, targets = self._scores_and_targets(images, labels)
        loss = F.cross_entropy(scores, targets)
        if not torch.isfinite(loss):
            raise NonFiniteError(
                f"The loss became {loss.item()} in step {self.global_step + 1}: lower the learning "
                f"rate (lr={self.lr}); the last checkpoint is as it was."
            )
        self._hits += (scores.argmax(1) == targets).sum().cpu()
        self._seen += len(targets)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, sync_dist=True)
        return loss

    def on_train_epoch_start(self) -> None:
        """Count training hits anew."""
        self._hits.zero_()
        self._seen = 0

    def on_train_epoch_end(self) -> None:
        """Tell the pressure how the epoch went."""
        accuracy = self.train_accuracy()
        self.log("train_accuracy", accuracy)
        if self.sparse_optimizer is not None:
            self.sparse_optimizer.observe(accuracy)

    def train_accuracy(self) -> float:
        """Return the accuracy over the batches of the epoch so far, each before its step.

        All ranks have to ask at once.
        """
        counts = torch.tensor([int(self._hits), self._seen])
        if self._trainer is not None and self.trainer.world_size > 1:
            counts = self.trainer.strategy.reduce(counts, reduce_op="sum")
        return int(counts[0]) / max(1, int(counts[1]))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the accuracy on held-out images."""
        images, labels = batch
        scores, targets = self._scores_and_targets(images, labels)
        hits = (scores.argmax(1) == targets).float().mean()
        size = len(labels)
        self.log("val_accuracy", hits, prog_bar=True, batch_size=size, sync_dist=True)
        loss = F.cross_entropy(scores, targets)
        self.log("val_loss", loss, batch_size=size, sync_dist=True)

    def _scores_and_targets(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Score each label: one an image, or one a token of text."""
        return self.model(images).flatten(0, -2), labels.flatten()
