"""Lightning's early stopping, held back until there is something to stop."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.integrations.lightning import EarlyStoppingAtTarget
from mirrormask.masking import ProjectAndFreeze

EPOCHS, CUT_AFTER = 12, 6


class Regression(LightningModule):
    """Gets no better by the measure that is watched, whatever it does."""

    def __init__(self, wrap: Callable[[torch.optim.Optimizer, nn.Module], torch.optim.Optimizer]):
        super().__init__()
        self.layer, self.wrap = nn.Linear(8, 4), wrap

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.wrap(torch.optim.SGD(self.parameters(), lr=0.05), self)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        self.log("watched", 1.0)
        return (self.layer(batch[0]) - batch[1]).square().mean()

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.log("held_out", 1.0)


def stops_after(wrap: Callable, stop: EarlyStoppingAtTarget) -> int:
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.randn(16, 8), torch.randn(16, 4)), batch_size=16)
    trainer = Trainer(
        max_epochs=EPOCHS,
        callbacks=[stop],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Regression(wrap), loader, loader)
    return trainer.current_epoch


def sparse(optimizer: torch.optim.Optimizer, module: nn.Module) -> mm.SparseOptimizer:
    recipe = mm.Recipe(masking=ProjectAndFreeze(at=CUT_AFTER / EPOCHS))
    return mm.sparsify(optimizer, module, sparsity=0.5, steps=EPOCHS, method=recipe)


@pytest.mark.parametrize("metric", ["watched", "held_out"])
def test_patience_counts_from_the_cut_on(metric: str) -> None:
    # The first look is after the epoch of the cut; two without progress follow.
    stop = EarlyStoppingAtTarget(metric, patience=2, check_on_train_epoch_end=metric == "watched")
    assert stops_after(sparse, stop) == CUT_AFTER + 2


def test_a_dense_optimizer_is_refused() -> None:
    stop = EarlyStoppingAtTarget("watched", patience=2, check_on_train_epoch_end=True)
    with pytest.raises(ArgumentError, match=r"finds no optimizer of mirrormask.*configure_optim"):
        stops_after(lambda optimizer, _: optimizer, stop)
