"""The main job: train a dense network and its sparse twin alike, and set them side by side."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from mirrormask.deploy import BenchOptions, BenchReport, bench, save
from mirrormask.ranks import Ranks
from mirrormask.study.data import Dataset, load
from mirrormask.study.launch import check_shared, joined
from mirrormask.study.page import write_page
from mirrormask.study.result import StageResult, TrainResult
from mirrormask.study.run_folder import open_run_folder, remove_leftovers, replacing, write_text
from mirrormask.study.settings import TrainSettings
from mirrormask.study.stage import MODEL, load_model, run_stage
from mirrormask.study.sweep import sweep_once

PACKED = "model.packed.safetensors"


def train(settings: TrainSettings, folder: Path, *, resume: bool) -> TrainResult:
    """Run the main job in a folder, or go on with the one that is there.

    Where torchrun has started several ranks, they train together with DistributedDataParallel, and
    the first one writes into the folder, which all have to see.

    The folder ends with ``config.json``, ``model.safetensors`` (the sparse network),
    ``model.packed.safetensors`` (the same, packed), ``report.json``, ``metrics.csv``,
    ``report.html``, and one sub-folder for each twin with its checkpoint, TensorBoard log and
    model.

    Args:
        settings: What to train.
        folder: Where; created if missing.
        resume: Go on with the run in the folder.

    Returns:
        Both twins.

    Raises:
        OutputError: If the folder cannot be written or holds another run.
        CheckpointError: If a run cannot be resumed.
        DataError: If the data cannot be read.
        NonFiniteError: If a loss is not finite.
        RankError: If ranks were started with different settings.
    """
    with joined() as ranks:
        return _train(settings, folder, ranks, resume=resume)


def _train(settings: TrainSettings, folder: Path, ranks: Ranks, *, resume: bool) -> TrainResult:
    torch.set_num_threads(settings.threads)
    data = load(
        settings.data,
        root=settings.data_root,
        validation=settings.validation,
    )
    with ranks.refusing_together():
        if ranks.rank == 0:
            open_run_folder(folder, settings.to_config(), resume=resume)
            remove_leftovers(folder)
    ranks.agree({"settings": [f"{k}={v}" for k, v in settings.to_config().items()]})
    check_shared(folder, ranks)
    dense = run_stage(folder / "dense", settings, data, None, ranks)
    sparse = run_stage(folder / "sparse", settings, data, settings.method, ranks)
    if ranks.rank == 0:
        _write_results(settings, folder, data, dense, sparse)
    ranks.gather(None)
    packed = (folder / PACKED).stat().st_size
    return TrainResult(folder=folder, dense=dense, sparse=sparse, packed_bytes=packed)


def _write_results(
    settings: TrainSettings, folder: Path, data: Dataset, dense: StageResult, sparse: StageResult
) -> None:
    models = {name: load_model(folder / name, settings, data) for name in ("dense", "sparse")}
    packed = save(models["sparse"], folder / PACKED)
    result = TrainResult(folder=folder, dense=dense, sparse=sparse, packed_bytes=packed.file_bytes)
    for name in (MODEL, "metrics.csv"):
        with replacing(folder / name) as temporary:
            shutil.copyfile(folder / "sparse" / name, temporary)
    write_text(folder / "report.json", sparse.report or "{}")
    sweeps = {
        name: sweep_once(folder / name, model, data, settings.batch_size, settings.seed)
        for name, model in models.items()
    }
    write_page(folder / "report.html", settings, result, models, sweeps)


def time_result(
    settings: TrainSettings, result: TrainResult, batches: tuple[int, ...]
) -> BenchReport:
    """Time the sparse network of a finished job against dense runtimes, on this machine.

    Args:
        settings: Of the job.
        result: What it left.
        batches: Batch sizes, each at least 1.

    Returns:
        The figures, also written to ``bench.json`` in the run's folder.
    """
    data = load(settings.data, root=settings.data_root, validation=settings.validation)
    model = load_model(result.folder / "sparse", settings, data)
    options = BenchOptions(
        batches=batches, threads=(settings.threads,), runtimes=("ONNX Runtime", "ONNX Runtime int8")
    )
    # The accuracy of every contender is that of the test images already looked at.
    report = bench(model, data.test.images[: max(batches)], data=data.test, options=options)
    report.save_json(result.folder / "bench.json")
    return report
