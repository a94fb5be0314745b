"""A LightningModule with all that trainers offer, made sparse by two lines.

Gradient accumulation and clipping, bf16 autocast, a schedule, an average of the weights, early
stopping, and Lightning's own checkpoints, from which a killed run goes on bit for bit.

    python examples/with_lightning.py
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import mirrormask as mm
from mirrormask.integrations.lightning import EarlyStoppingAtTarget

EPOCHS, PATIENCE = 10, 3


def points(seed: int, count: int = 1024) -> TensorDataset:
    """Points in 20 dimensions, of which three decide the class."""
    x = torch.randn(count, 20, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x[:, 3] + x[:, 7] * x[:, 11].sign() > 0).long())


class SparseClassifier(LightningModule):
    """Two layers, trained to 90 % zeros."""

    def __init__(self, base: str = "adamw", method: str = "pilot") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2))
        self.report: mm.SparsityReport | None = None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the sparse optimizer, and a schedule by the step."""
        steps = int(self.trainer.estimated_stepping_batches)  # knows epochs and accumulation
        plain: torch.optim.Optimizer = (
            torch.optim.AdamW(self.parameters(), lr=1e-2, weight_decay=0.0)
            if self.hparams["base"] == "adamw"
            else torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        )
        self.sparse = mm.sparsify(  # line one
            plain, self, sparsity=0.9, steps=steps, method=self.hparams["method"]
        )
        schedule = OneCycleLR(self.sparse, plain.param_groups[0]["lr"], steps)
        return [self.sparse], [{"scheduler": schedule, "interval": "step"}]

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Return the loss of a batch."""
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Log the loss on held-out points."""
        x, y = batch
        self.log("val_loss", F.cross_entropy(self.net(x), y))

    def on_train_end(self) -> None:
        """Finish, after the callbacks: the average has been put into the model by then."""
        self.report = self.sparse.finalize()  # line two

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the points in an order that depends on the epoch alone, also after a resume."""
        data = points(0)
        # Lightning tells this sampler the epoch; it does not restore torch's random state.
        order = DistributedSampler(data, num_replicas=1, rank=0)
        return DataLoader(data, batch_size=32, sampler=order)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return held-out points."""
        return DataLoader(points(1), batch_size=1024)


class Killed(Exception):
    """The run ends here, as if by a signal."""


class Kill(Callback):
    """Ends the run after some epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the run if it is time."""
        if trainer.current_epoch == self.epochs:
            raise Killed


def train(
    folder: Path,
    *,
    base: str = "adamw",
    method: str = "pilot",
    killed_after: int = EPOCHS,
    patience: int = PATIENCE,
) -> SparseClassifier:
    """Train from the start, or from the checkpoint in the folder if there is one."""
    torch.manual_seed(0)
    module = SparseClassifier(base, method)
    trainer = Trainer(
        max_epochs=EPOCHS,
        accumulate_grad_batches=2,
        gradient_clip_val=1.0,
        precision="bf16-mixed",
        callbacks=[
            EMAWeightAveraging(decay=0.9),
            EarlyStoppingAtTarget("val_loss", patience=patience),
            ModelCheckpoint(folder, save_last=True),
            Kill(killed_after),
        ],
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    last = folder / "last.ckpt"
    trainer.fit(module, ckpt_path=last if last.exists() else None)
    return module


def main() -> None:
    """Train, with an interruption half-way."""
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(Killed):
            train(Path(folder), killed_after=EPOCHS // 2)
        module = train(Path(folder))
    x, y = points(1).tensors
    print(module.report)
    print(f"accuracy {(module.net(x).argmax(1) == y).float().mean():.3f}")


if __name__ == "__main__":
    main()
