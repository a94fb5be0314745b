"""The Trainer's own optimizer made sparse, on a real Trainer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    EarlyStoppingCallback,
    Trainer,
    TrainingArguments,
)

import mirrormask as mm
from mirrormask.errors import ArgumentError, LifecycleError
from mirrormask.integrations.transformers import sparsify_trainer
from mirrormask.masking import ProjectAndFreeze
from mirrormask.pressure import Algorithm1

EPOCHS, CUT_AFTER = 8, 4


class Tokens(Dataset):
    """Sixteen sentences, one batch an epoch."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": torch.arange(6) + index % 4, "labels": torch.tensor(index % 2)}


def make_trainer(folder: Path, callbacks: list | None = None, **options: Any) -> Trainer:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=16,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=8,
    )
    wanted: dict[str, Any] = {
        "output_dir": str(folder),
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": 16,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
    }
    optimizers = options.pop("optimizers", (None, None))
    return Trainer(
        model=BertForSequenceClassification(config),
        args=TrainingArguments(**wanted | options),
        train_dataset=Tokens(),
        eval_dataset=Tokens(),
        callbacks=callbacks,
        compute_metrics=lambda _: {"constant": 1.0},
        optimizers=optimizers,
    )


RECIPE = mm.Recipe(masking=ProjectAndFreeze(at=CUT_AFTER / EPOCHS))


def test_it_wraps_what_the_arguments_ask_for_and_saves_a_plain_model(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, optim="rmsprop", learning_rate=1e-3)
    sparse = sparsify_trainer(trainer, sparsity=0.75, method="gmp", exclude="classifier")
    trainer.train()
    assert isinstance(sparse.optimizer.base, torch.optim.RMSprop)
    assert sparse.optimizer.steps == sparse.report.steps == EPOCHS
    assert sparse.optimizer.seed == trainer.args.seed
    assert "classifier.weight" not in {tensor.name for tensor in sparse.report.tensors}
    trainer.save_model(str(tmp_path / "plain"))
    loaded = dict(
        BertForSequenceClassification.from_pretrained(tmp_path / "plain").named_parameters()
    )
    zeros = sum(int((loaded[t.name] == 0).sum()) for t in sparse.report.tensors)
    assert zeros == sparse.report.asked_zeros


def test_it_wraps_an_optimizer_that_the_trainer_was_given(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    own = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    trainer.optimizer = own
    sparse = sparsify_trainer(trainer, sparsity=0.5, method=RECIPE)
    trainer.train()
    assert sparse.optimizer.base is own
    assert sparse.report.zeros == sparse.report.asked_zeros


def test_patience_and_the_best_model_count_from_the_cut_on(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path,
        [EarlyStoppingCallback(early_stopping_patience=2)],
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="constant",
        greater_is_better=True,
    )
    sparse = sparsify_trainer(trainer, sparsity=0.5, method=RECIPE)
    trainer.train()
    # The metric never changes: the first look at the target is the best, two more end the run.
    assert trainer.state.global_step == CUT_AFTER + 2
    assert trainer.state.best_global_step == CUT_AFTER
    assert sparse.report.zeros == sparse.report.asked_zeros


def test_the_logged_loss_reaches_a_pressure_that_asks(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, logging_steps=1)
    recipe = mm.Recipe(pressure=Algorithm1(alpha_init=1e-6, delta=2.0, tolerance=100.0))
    sparse = sparsify_trainer(trainer, sparsity=0.5, method=recipe)
    trainer.train()
    # Half of the run up, half of it down again.
    assert sparse.optimizer.pressure_state["exponent"] == 0.0
    assert -10 < sparse.optimizer.pressure_state["accuracy"] < 0


def test_a_second_train_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    sparsify_trainer(trainer, sparsity=0.5)
    trainer.train()
    with pytest.raises(LifecycleError, match="called after finalize"):
        trainer.train()


def test_an_optimizer_from_elsewhere_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    sparsify_trainer(trainer, sparsity=0.5)
    trainer.create_optimizer = lambda model=None: torch.optim.SGD(trainer.model.parameters(), 0.1)
    trainer.optimizer = trainer.create_optimizer()
    with pytest.raises(LifecycleError, match=r"elsewhere than from create_optimizer.*DeepSpeed"):
        trainer.train()


def test_looking_for_a_batch_size_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, auto_find_batch_size=True)
    with pytest.raises(ArgumentError, match="auto_find_batch_size=True changes the number of"):
        sparsify_trainer(trainer, sparsity=0.5)


@pytest.mark.parametrize("name", ["transformers", "lightning"])
def test_a_missing_framework_is_told_in_one_sentence(name: str) -> None:
    code = (
        f"import sys; sys.modules[{name!r}] = None\n"
        "from mirrormask.errors import MissingExtraError\n"
        f"try:\n    import mirrormask.integrations.{name}\n"
        "except MissingExtraError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"needs {name}" in done.stdout
    assert "pip install" in done.stdout
