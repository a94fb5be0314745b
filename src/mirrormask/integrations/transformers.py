"""Hugging Face Trainer: the optimizer that it builds from its arguments, made sparse."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from mirrormask.errors import ArgumentError, LifecycleError, MissingExtraError
from mirrormask.optimizer import Recipe, SparseOptimizer
from mirrormask.report import SparsityReport
from mirrormask.selection import Patterns
from mirrormask.sparsifying import sparsify

try:
    from transformers import (
        Trainer,
        TrainerCallback,
        TrainerControl,
        TrainerState,
        TrainingArguments,
    )
except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision of another torch
    raise MissingExtraError(
        f"mirrormask.integrations.transformers needs transformers and accelerate ({error}): "
        "pip install 'mirrormask[huggingface]'"
    ) from error


class Sparse(TrainerCallback):
    """What :func:`sparsify_trainer` adds to a trainer: it finishes the model when training ends.

    The best model and early stopping count from the moment on at which the masks have the zeros
    asked for; what comes before is a denser model.

    Attributes:
        optimizer: The sparse optimizer, once training has begun.
        report: What came out, once training has ended.
    """

    def __init__(self) -> None:
        self.optimizer: SparseOptimizer | None = None
        self.report: SparsityReport | None = None
        self._judged_at_target = False

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Look whether there is a sparse optimizer at all, and how far a resumed run had come."""
        self._judged_at_target = self._running().at_target

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Forget the best metric of a denser model; runs before callbacks that look at it."""
        if self.report is None and self.optimizer is not None and not self._judged_at_target:
            state.best_metric = state.best_model_checkpoint = state.best_global_step = None
            self._judged_at_target = self.optimizer.at_target

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Report the loss to a pressure that asks how training goes (Algorithm 1)."""
        loss = (logs or {}).get("loss")
        if self.report is None and self.optimizer is not None and loss is not None:
            self.optimizer.observe(-loss)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Cut to the exact target; the best model is loaded by then, if that was asked for."""
        self.report = self._running().finalize()

    def _running(self) -> SparseOptimizer:
        if self.optimizer is None:
            raise LifecycleError(
                "This trainer got its optimizer elsewhere than from create_optimizer, as under "
                "DeepSpeed: nothing would be sparse; use one of torch.optim."
            )
        return self.optimizer


def sparsify_trainer(
    trainer: Trainer,
    *,
    sparsity: float,
    method: str | Recipe = "pilot",
    include: Patterns | None = None,
    exclude: Patterns | None = None,
) -> Sparse:
    """Make what a Trainer trains exactly as sparse as asked, with its arguments as they are.

    Call it before ``train``. The optimizer that the trainer builds, or was given, is wrapped by
    :func:`mirrormask.sparsify` when the number of steps is known, and the model is finished when
    training ends: ``save_model`` then writes it with its zeros. Checkpoints and resuming work as
    before. The seed is that of the trainer's arguments.

    Args:
        trainer: A ``transformers.Trainer`` or what derives from it.
        sparsity: Fraction of zeros over the selected weights, in [0, 1).
        method: A name from :data:`mirrormask.METHODS`, or a :class:`mirrormask.Recipe`.
        include: See :func:`mirrormask.sparsify`.
        exclude: See :func:`mirrormask.sparsify`.

    Returns:
        The callback, whose ``report`` says what came out.

    Raises:
        ArgumentError: If the trainer looks for its batch size while it trains.
    """
    if trainer.args.auto_find_batch_size:
        raise ArgumentError(
            "auto_find_batch_size=True changes the number of steps on the way, which a sparse run "
            "has to know: set per_device_train_batch_size."
        )
    sparse = Sparse()
    create_dense = trainer.create_optimizer

    def create_optimizer(model: nn.Module | None = None) -> Optimizer:
        optimizer = create_dense(model)
        # In a second call of train it is there already, inside Accelerate's wrapper.
        if isinstance(getattr(optimizer, "optimizer", optimizer), SparseOptimizer):
            return optimizer
        trained = trainer.model if model is None else model
        assert trained is not None
        trainer.optimizer = sparse.optimizer = sparsify(
            optimizer,
            trained,
            sparsity=sparsity,
            steps=trainer.state.max_steps,
            method=method,
            include=include,
            exclude=exclude,
            seed=trainer.args.seed,
        )
        return trainer.optimizer

    trainer.create_optimizer = create_optimizer  # type: ignore[method-assign]
    # First of all callbacks, so that early stopping sees the metric that it has forgotten.
    trainer.callback_handler.callbacks.insert(0, sparse)
    return sparse
