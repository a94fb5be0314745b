"""Checkpoints that any number of ranks write together and any other number goes on from."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from mirrormask.errors import ArgumentError, CheckpointError
from mirrormask.optimizer.core import SparseOptimizer
from mirrormask.optimizer.engines import reshard, unwrapped
from mirrormask.optimizer.shared_entries import empty_entries, load_entries, to_entries

_DONE = ".metadata"
"""What torch writes last."""


def save_checkpoint(
    folder: Path | str,
    model: nn.Module,
    optimizer: SparseOptimizer,
    others: Mapping[str, Any] | None = None,
    *,
    keep: int = 2,
) -> Path:
    """Write model and optimizer through torch's distributed checkpoint, each rank its own part.

    All ranks call it at once, with a folder that all of them see. Every checkpoint goes to a folder
    of its own below, named by the step, and older ones are removed only once it is complete: a rank
    that is killed at any moment leaves a whole one.

    Args:
        folder: Of the run; created if missing.
        model: Plain, inside DistributedDataParallel, or sharded by ``fully_shard``.
        optimizer: What ``sparsify`` returned for it.
        others: Further plain values, the same on all ranks, such as the epoch and the
            ``state_dict`` of a scheduler: numbers, strings, tensors, lists and dictionaries.
        keep: Complete checkpoints to leave, at least 1.

    Returns:
        The folder of this checkpoint.

    Raises:
        ArgumentError: If ``keep`` is below 1, or ``others`` hold more than plain values.
        LifecycleError: If the model is finalised.
    """
    if keep < 1:
        raise ArgumentError(f"keep={keep} would leave no checkpoint: use at least 1.")
    from torch.distributed.checkpoint.filesystem import FileSystemWriter  # noqa: PLC0415
    from torch.distributed.checkpoint.state_dict_saver import save  # noqa: PLC0415

    ranks = optimizer.ranks
    path = Path(ranks.gather(str(_free(Path(folder), optimizer.steps_done)))[0])
    with optimizer.whole(), _quietly():
        entries = to_entries(unwrapped(model), optimizer, others)
        save(
            entries,
            storage_writer=FileSystemWriter(path),
            process_group=ranks.group,
            no_dist=ranks.size == 1,
        )
    if ranks.rank == 0:
        complete = _complete(path.parent)
        for other in path.parent.glob("step-*"):
            if other not in complete[-keep:]:
                (other / _DONE).unlink(missing_ok=True)
                shutil.rmtree(other)
    ranks.gather(None)
    return path


def load_checkpoint(
    folder: Path | str, model: nn.Module, optimizer: SparseOptimizer
) -> dict[str, Any] | None:
    """Go on from the newest complete checkpoint, written by any number of ranks.

    Model and optimizer are built as for a new run, on as many ranks as there are now, whole or
    sharded; what was written is cut anew to fit. All ranks call it at once.

    Args:
        folder: The one given to :func:`save_checkpoint`.
        model: The model.
        optimizer: What ``sparsify`` returned for it, with the settings of the run.

    Returns:
        The ``others`` that were saved, or None, with nothing changed, if there is no checkpoint.

    Raises:
        CheckpointError: If it is damaged, or of another model, method, target or length.
    """
    found = optimizer.ranks.gather([str(path) for path in _complete(Path(folder))])
    if any(paths != found[0] for paths in found):
        raise CheckpointError(
            f"Ranks see different checkpoints in {folder}: give a folder that all machines share."
        )
    if not found[0]:
        return None
    path = Path(found[0][-1])
    inside = unwrapped(model)
    reshard(inside)
    with optimizer.whole():
        return load_entries(inside, optimizer, _read(path, inside, optimizer))


def _read(path: Path, inside: nn.Module, optimizer: SparseOptimizer) -> dict[str, Any]:
    from torch.distributed.checkpoint.api import CheckpointException  # noqa: PLC0415
    from torch.distributed.checkpoint.filesystem import FileSystemReader  # noqa: PLC0415
    from torch.distributed.checkpoint.state_dict_loader import load  # noqa: PLC0415

    try:
        reader = FileSystemReader(path)
        entries = empty_entries(inside, optimizer, reader.read_metadata().state_dict_metadata)
        with _quietly():
            load(
                entries,
                storage_reader=reader,
                process_group=optimizer.ranks.group,
                no_dist=optimizer.ranks.size == 1,
            )
    except CheckpointError:
        raise
    except (Exception, CheckpointException) as error:
        raise CheckpointError(
            f"{path} is damaged ({_cause(error)}): remove it to go on from an older one."
        ) from error
    return entries


def _complete(folder: Path) -> list[Path]:
    """Return the complete checkpoints in a folder, oldest first."""
    return sorted(path.parent for path in folder.glob(f"step-*/{_DONE}"))


def _free(folder: Path, step: int) -> Path:
    """Return a new folder for a step; what is complete stays until the next one is."""
    path, number = folder / f"step-{step:09d}", 1
    while (path / _DONE).exists():
        number += 1
        path = folder / f"step-{step:09d}-{number}"
    return path


@contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        # One process alone is what is meant where there is one.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _cause(error: BaseException) -> str:
    """Return what went wrong on the first rank on which something did."""
    failures = getattr(error, "failures", None)
    first = next(iter(failures.values()))[0] if failures else error
    return f"{type(first).__name__}: {str(first)[:200]}".rstrip(": ")
