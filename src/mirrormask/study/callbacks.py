"""What a run keeps while it trains: checkpoints that survive a kill, and its history."""

from __future__ import annotations

import csv
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from mirrormask.errors import CheckpointError
from mirrormask.study.batches import Batches
from mirrormask.study.rank_batches import RankBatches
from mirrormask.study.run_folder import replacing, write_text
from mirrormask.study.task import Classification

CHECKPOINT = "last.ckpt"


class AtomicCheckpoint(Checkpoint):
    """Replaces ``last.ckpt`` after every epoch, so that a kill at any moment leaves a whole one.

    Lightning's own writer goes through a temporary file that may lie on another disk, from which
    no atomic move is possible. As a ``Checkpoint`` it comes after every other hook of the epoch.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / CHECKPOINT

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save everything that a resumed run needs, all ranks together, the first one to disk."""
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.path)
            return
        with replacing(self.path) as temporary:
            trainer.save_checkpoint(temporary)


class EpochOrder(Callback):
    """Tells the batches which epoch it is: their order is a function of seed and epoch."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the epoch before the first batch is drawn."""
        batches = trainer.train_dataloader
        assert isinstance(batches, Batches | RankBatches)
        batches.set_epoch(trainer.current_epoch)


class History(Callback):
    """Keeps one row an epoch and the path of the pressure; both live in the checkpoint.

    ``metrics.csv`` is rewritten whole after each epoch, so a resumed run has no row twice.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.csv"
        self.epochs: list[dict[str, float]] = []
        self.pressure: list[tuple[int, float, float]] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the strength of the step to come and the budget spent so far."""
        optimizer = pl_module.sparse_optimizer if isinstance(pl_module, Classification) else None
        if optimizer is not None:
            self.pressure.append((optimizer.steps_done, optimizer.alpha, optimizer.budget))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the row of this epoch."""
        assert isinstance(pl_module, Classification)
        row = {
            "epoch": float(trainer.current_epoch + 1),
            "lr": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "train_loss": float(trainer.callback_metrics["train_loss"]),
            "train_accuracy": pl_module.train_accuracy(),
        }
        if "val_accuracy" in trainer.callback_metrics:
            row["val_accuracy"] = float(trainer.callback_metrics["val_accuracy"])
            row["val_loss"] = float(trainer.callback_metrics["val_loss"])
        optimizer = pl_module.sparse_optimizer
        if optimizer is not None:
            zeros = sum(int((p == 0).sum()) for p in optimizer.weights)
            weights = sum(p.numel() for p in optimizer.weights)
            scales = sorted(optimizer.scales().values())
            row |= {
                "alpha": optimizer.alpha,
                "budget": optimizer.budget,
                "scale": scales[len(scales) // 2],
                "l1": float(optimizer.l1()),
                "zeros": zeros / weights,
            }
            pl_module.log_dict({k: row[k] for k in ("alpha", "budget", "scale", "l1", "zeros")})
        self.epochs.append(row)
        if not trainer.is_global_zero:
            return
        stream = io.StringIO()
        writer = csv.DictWriter(stream, fieldnames=list(self.epochs[0]))
        writer.writeheader()
        writer.writerows(self.epochs)
        write_text(self.path, stream.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """Return the history for the checkpoint."""
        return {"epochs": self.epochs, "pressure": self.pressure}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the history from a checkpoint."""
        self.epochs = list(state_dict["epochs"])
        self.pressure = [tuple(row) for row in state_dict["pressure"]]


class EpochLines(Callback):
    """Prints one line an epoch where no terminal can show a progress bar."""

    def __init__(self, title: str, epochs: int) -> None:
        self.title = title
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print where the run is."""
        if not trainer.is_global_zero:
            return
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
        shown = [f"{self.title}: epoch {trainer.current_epoch + 1}/{self.epochs}"]
        for key, label in (("train_loss", "loss"), ("val_accuracy", "validation accuracy")):
            if key in metrics:
                shown.append(f"{label} {metrics[key]:.4f}")
        print(", ".join(shown), flush=True)  # noqa: T201


def check_checkpoint(path: Path) -> None:
    """Refuse a checkpoint that cannot be read whole, before training begins.

    Raises:
        CheckpointError: If the file is damaged or no checkpoint of a run.
    """
    damage = (
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        AttributeError,
        ImportError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except damage as error:
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__}): delete it to train this stage anew."
        ) from error
    if not isinstance(content, dict) or "state_dict" not in content or "callbacks" not in content:
        raise CheckpointError(
            f"{path} is no checkpoint of a run: delete it to train this stage anew."
        )
