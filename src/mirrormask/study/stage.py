"""One stage of the main job: train one network, checkpointed, and leave it plain."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from safetensors.torch import load_file, save_file
from torch import nn

from mirrormask.ranks import Ranks
from mirrormask.report import SparsityReport
from mirrormask.study.batches import Batches
from mirrormask.study.callbacks import (
    CHECKPOINT,
    AtomicCheckpoint,
    EpochLines,
    EpochOrder,
    History,
    check_checkpoint,
)
from mirrormask.study.data import DATASETS, Dataset, Split
from mirrormask.study.fit import evaluate
from mirrormask.study.launch import ranks_here
from mirrormask.study.models import build_for
from mirrormask.study.rank_batches import RankBatches
from mirrormask.study.result import StageResult
from mirrormask.study.run_folder import replacing
from mirrormask.study.settings import TrainSettings
from mirrormask.study.task import Classification

MODEL, RESULT = "model.safetensors", "result.json"


def run_stage(
    folder: Path, settings: TrainSettings, data: Dataset, method: str | None, ranks: Ranks
) -> StageResult:
    """Train one network, or go on with it, or return what it left when it finished before.

    Several ranks train it together, and the first one writes.

    Args:
        folder: Of this stage; created if missing.
        settings: Of the whole job.
        data: Loaded with them.
        method: A sparse method, or None for the dense twin.
        ranks: The processes that train it.

    Raises:
        CheckpointError: If the stage's checkpoint is damaged.
        NonFiniteError: If the loss is not finite; the last checkpoint stays.
        OutputError: If the folder cannot be written.
    """
    folder.mkdir(exist_ok=True)
    if ranks.gather((folder / RESULT).exists())[0]:
        return StageResult.read(folder / RESULT)
    began = time.perf_counter()
    network = make_model(settings, data)
    batches = share(
        Batches(
            *data.train,
            batch_size=settings.batch_size,
            seed=settings.seed,
            augment=DATASETS[settings.data].augment,
        ),
        ranks,
    )
    task = Classification(
        network,
        steps=settings.epochs * len(batches),
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        method=method,
        sparsity=settings.sparsity,
    )
    history = History(folder)
    title = method or "dense"
    _fit(folder, settings, task, batches, data.validation, history, title, ranks)
    report = None
    if task.sparse_optimizer is not None:
        # Plain images: what BatchNorm sees should be what it will see.
        plain = Batches(*data.train, batch_size=settings.batch_size, shuffle=False)
        report = task.sparse_optimizer.finalize(plain)
    network.eval()
    if ranks.rank == 0:
        _leave(folder, network, data, history, title, report, time.perf_counter() - began)
    ranks.gather(None)
    return StageResult.read(folder / RESULT)


def share(batches: Batches, ranks: Ranks) -> Batches | RankBatches:
    """Return a rank's share of each batch; whole batches where there is one rank."""
    return batches if ranks.size == 1 else RankBatches(batches, rank=ranks.rank, ranks=ranks.size)


def _leave(
    folder: Path,
    network: nn.Module,
    data: Dataset,
    history: History,
    title: str,
    report: SparsityReport | None,
    seconds: float,
) -> None:
    with replacing(folder / MODEL) as temporary:
        save_file(network.state_dict(), temporary)
    accuracy, loss = evaluate(network, data.test)
    targets = [p for p in network.parameters() if p.ndim >= 2]
    result = StageResult(
        title=title,
        test_accuracy=accuracy,
        test_loss=loss,
        seconds=seconds,
        zeros=report.zeros if report else sum(int((p == 0).sum()) for p in targets),
        weights=report.weights if report else sum(p.numel() for p in targets),
        bytes=(folder / MODEL).stat().st_size,
        epochs=history.epochs,
        pressure=history.pressure,
        report=None if report is None else report.to_json(),
    )
    result.write(folder / RESULT)


def make_model(settings: TrainSettings, data: Dataset) -> nn.Module:
    """Return the network at its start, the same for both twins."""
    torch.manual_seed(settings.seed)
    return build_for(settings.model, data)


def load_model(folder: Path, settings: TrainSettings, data: Dataset) -> nn.Module:
    """Return the finished network of a stage."""
    model = make_model(settings, data)
    model.load_state_dict(load_file(folder / MODEL))
    return model.eval()


def _fit(
    folder: Path,
    settings: TrainSettings,
    task: Classification,
    batches: Batches | RankBatches,
    validation: Split,
    history: History,
    title: str,
    ranks: Ranks,
) -> None:
    checkpoint = folder / CHECKPOINT
    goes_on = ranks.gather(checkpoint.exists())[0]
    if goes_on:
        check_checkpoint(checkpoint)
    lines = RichProgressBar() if sys.stdout.isatty() else EpochLines(title, settings.epochs)
    # Lightning tells about accelerators and loaders that are not used here.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer = Trainer(
            accelerator="cpu",
            devices=ranks_here(),
            num_nodes=ranks.size // ranks_here(),
            strategy="auto" if ranks.size == 1 else "ddp",
            use_distributed_sampler=False,
            max_epochs=settings.epochs,
            logger=TensorBoardLogger(folder, name="tensorboard", version=""),
            callbacks=[EpochOrder(), history, AtomicCheckpoint(folder), lines],
            enable_checkpointing=True,
            enable_model_summary=False,
            enable_progress_bar=sys.stdout.isatty(),
            num_sanity_val_steps=0,
            deterministic=True,
        )
        held_out = (
            Batches(*validation, batch_size=500, shuffle=False) if len(validation[1]) else None
        )
        trainer.fit(
            task,
            train_dataloaders=batches,
            val_dataloaders=held_out,
            ckpt_path=checkpoint if goes_on else None,
        )
    if trainer.interrupted:
        raise KeyboardInterrupt
