"""A Hugging Face Trainer with all its arguments, made sparse by one line.

Gradient accumulation and clipping, bf16 autocast, a schedule, early stopping, the best model, and
the Trainer's own checkpoints, from which a killed run goes on bit for bit. The model is a small
BERT without weights from anywhere; a pretrained one goes in the same way.

    python examples/with_transformers.py
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import mirrormask as mm
from mirrormask.integrations.transformers import sparsify_trainer

EPOCHS, PATIENCE, VOCABULARY, LENGTH = 8, 3, 16, 8


class Killed(Exception):
    """The run ends here, as if by a signal."""


class Kill(TrainerCallback):
    """Ends the run after some epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End the run if it is time."""
        if round(state.epoch) == self.epochs:
            raise Killed


class Sentences(Dataset[dict[str, Tensor]]):
    """Random sentences; the class is whether token 3 comes up."""

    def __init__(self, seed: int, count: int = 512) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randint(4, VOCABULARY, (count, LENGTH), generator=generator)
        self.labels = torch.randint(2, (count,), generator=generator)
        place = torch.randint(LENGTH, (count,), generator=generator)
        self.tokens[torch.arange(count), place] = torch.where(self.labels == 1, 3, 4)

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return a sentence as the model's arguments."""
        return {"input_ids": self.tokens[index], "labels": self.labels[index]}


def train(
    folder: Path,
    *,
    base: str = "adamw",
    method: str = "pilot",
    killed_after: int = EPOCHS,
    patience: int = PATIENCE,
) -> tuple[Trainer, mm.SparsityReport | None]:
    """Train from the start, or from the last checkpoint in the folder if there is one.

    Args:
        folder: Of the checkpoints.
        base: ``"adamw"`` or ``"sgd"``.
        method: Any of ``mirrormask methods``.
        killed_after: Epochs after which the run ends as if by a signal.
        patience: Epochs without progress after which it stops.
    """
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=LENGTH,
    )
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=32,
        gradient_accumulation_steps=2,
        optim="adamw_torch_fused" if base == "adamw" else "sgd",
        learning_rate=1e-2 if base == "adamw" else 0.5,
        warmup_steps=5,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=True,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        per_device_eval_batch_size=512,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=BertForSequenceClassification(config),
        args=arguments,
        train_dataset=Sentences(0),
        eval_dataset=Sentences(1),
        callbacks=[EarlyStoppingCallback(early_stopping_patience=patience), Kill(killed_after)],
    )
    sparse = sparsify_trainer(trainer, sparsity=0.9, method=method)  # the line
    trainer.train(resume_from_checkpoint=any(folder.glob("checkpoint-*")) or None)
    return trainer, sparse.report


def main() -> None:
    """Train, with an interruption half-way."""
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(Killed):
            train(Path(folder), killed_after=EPOCHS // 2)
        trainer, report = train(Path(folder))
    held_out = Sentences(1)
    scores = trainer.predict(held_out).predictions
    print(report)
    print(f"accuracy {(torch.from_numpy(scores).argmax(1) == held_out.labels).float().mean():.3f}")


if __name__ == "__main__":
    main()
