"""The main job on two ranks: one run folder, exact zeros, and after a crash the same bytes."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from mirrormask.errors import ArgumentError, RankError
from mirrormask.report import SparsityReport

FILES = ("model.safetensors", "metrics.csv", "report.json", "dense/model.safetensors")


def settings(**options: Any) -> Any:
    from mirrormask.study.settings import TrainSettings

    plain = {"data": "digits", "model": "mlp", "epochs": 2, "sparsity": 0.9, "batch_size": 64}
    return TrainSettings(**plain | options)


def on_rank(rank: int, world: int, folder: str) -> list[str]:
    # What torchrun tells its processes.
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "TORCHELASTIC_RUN_ID": "test"}
    os.environ |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    warnings.simplefilter("ignore")
    from mirrormask.study.callbacks import EpochLines
    from mirrormask.study.train import train

    train(settings(), Path(folder) / "whole", resume=False)

    def crash(self: Any, trainer: Any, pl_module: Any) -> None:
        if self.title != "dense" and trainer.current_epoch == 0:
            raise RuntimeError("crash")

    after, EpochLines.on_train_epoch_end = EpochLines.on_train_epoch_end, crash
    with pytest.raises(RuntimeError, match="crash"):
        train(settings(), Path(folder) / "crashed", resume=False)
    EpochLines.on_train_epoch_end = after
    train(settings(), Path(folder) / "crashed", resume=True)

    errors = []
    for options, kind in (
        ({"lr": (0.1, 0.2)[rank]}, RankError),
        ({"batch_size": 3}, ArgumentError),
    ):
        with pytest.raises(kind) as refused:
            train(settings(**options), Path(folder) / f"refused-{len(errors)}", resume=False)
        errors.append(str(refused.value))
    return errors


@pytest.mark.slow
def test_two_ranks_train_into_one_folder(run_ranks, tmp_path: Path) -> None:
    for errors in run_ranks(2, on_rank, str(tmp_path)):
        assert errors[0].startswith(
            "Ranks differ in settings: rank 0 has lr=0.1, rank 1 has lr=0.2"
        )
        assert errors[1].startswith("batch_size=3 is no multiple of 2 ranks")
    whole, crashed = tmp_path / "whole", tmp_path / "crashed"
    report = SparsityReport.from_json((whole / "report.json").read_text())
    assert report.zeros == report.asked_zeros
    assert (whole / "report.html").exists()
    assert len((whole / "metrics.csv").read_text().splitlines()) == 3
    for name in FILES:
        assert (whole / name).read_bytes() == (crashed / name).read_bytes(), name
    assert not list(tmp_path.rglob("*.part"))
