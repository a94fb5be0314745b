"""Lightning: early stopping that does not mistake the dense start for the best model."""

from __future__ import annotations

from mirrormask.errors import ArgumentError, MissingExtraError
from mirrormask.optimizer import SparseOptimizer

try:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import EarlyStopping
except ImportError as error:
    raise MissingExtraError(
        f"mirrormask.integrations.lightning needs lightning ({error}): pip install 'lightning>=2.5'"
    ) from error


class EarlyStoppingAtTarget(EarlyStopping):
    """``EarlyStopping`` that starts to look once the masks have the zeros asked for.

    While weights are still being cut a model gets worse for a reason that is no overfitting, and
    the best model so far is a denser one. Takes what ``EarlyStopping`` takes, and needs a
    ``configure_optimizers`` that returns what :func:`mirrormask.sparsify` returned.

    Example:
        >>> stop = EarlyStoppingAtTarget("val_loss", patience=3)
        >>> stop.state_key.startswith("EarlyStoppingAtTarget")
        True
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look, if the target is reached."""
        if _sparse_optimizer(trainer).at_target:
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look, if the target is reached."""
        if _sparse_optimizer(trainer).at_target:
            super().on_validation_end(trainer, pl_module)


def _sparse_optimizer(trainer: Trainer) -> SparseOptimizer:
    for optimizer in trainer.optimizers:
        if isinstance(optimizer, SparseOptimizer):
            return optimizer
    raise ArgumentError(
        "EarlyStoppingAtTarget finds no optimizer of mirrormask in the trainer: return what "
        "sparsify returned from configure_optimizers, or use Lightning's own EarlyStopping."
    )
