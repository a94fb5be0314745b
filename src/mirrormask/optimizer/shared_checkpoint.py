"""Checkpoints that any number of ranks write together and any other number goes on from."""

from __future__ import annotations

import io
import pickle
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mirrormask.errors import ArgumentError, CheckpointError
from mirrormask.optimizer.core import SparseOptimizer
from mirrormask.optimizer.engines import reshard, unwrapped
from mirrormask.ranks import is_sharded

_RUN, _MODEL, _STATE, _STORED = "run", "model/", "state/", "stored/"
_DONE = ".metadata"


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

    packed = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[int, dict[str, Any]] = {}
    for index, entries in packed["state"].items():
        plain[index] = {}
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{_STATE}{index}/{key}"] = value
            else:
                plain[index][key] = value
    own = packed["mirrormask"]
    tensors |= {_STORED + name: tensor for name, tensor in own["stored"].items()}
    state = unwrapped(model).state_dict()
    tensors |= {_MODEL + name: value for name, value in state.items() if isinstance(value, Tensor)}
    run = {
        "mirrormask": own | {"stored": {}},
        "param_groups": packed["param_groups"],
        # Tensors lose their place among the others on the way: their order is part of the state.
        "order": {index: list(entries) for index, entries in packed["state"].items()},
        "plain": plain,
        "others": dict(others or {}),
    }
    written = _to_bytes(run)
    try:
        _from_bytes(written)
    except pickle.UnpicklingError as error:
        raise ArgumentError(
            f"others={_short(others)} could not be read again without running code: give numbers, "
            "strings, tensors, lists and dictionaries, such as what a state_dict() returns."
        ) from error
    folder = Path(folder) / f"step-{optimizer.steps_done:09d}"
    ranks = optimizer.ranks
    if ranks.rank == 0 and folder.exists():
        shutil.rmtree(folder)  # of a run that went on from before it
    ranks.gather(None)
    with _quietly():
        save(
            {**tensors, _RUN: written},
            storage_writer=FileSystemWriter(folder),
            process_group=ranks.group,
            no_dist=ranks.size == 1,
        )
    if ranks.rank == 0:
        for old in _complete(folder.parent)[:-keep]:
            (old / _DONE).unlink()
            shutil.rmtree(old)
    ranks.gather(None)
    return folder


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
    from torch.distributed.checkpoint.api import CheckpointException  # noqa: PLC0415
    from torch.distributed.checkpoint.filesystem import FileSystemReader  # noqa: PLC0415
    from torch.distributed.checkpoint.state_dict_loader import load  # noqa: PLC0415

    found = optimizer.ranks.gather([str(path) for path in _complete(Path(folder))])
    if any(paths != found[0] for paths in found):
        raise CheckpointError(
            f"Ranks see different checkpoints in {folder}: give a folder that all machines share."
        )
    if not found[0]:
        return None
    path = Path(found[0][-1])
    reader = FileSystemReader(path)
    like = _like(unwrapped(model), optimizer)
    try:
        written = reader.read_metadata().state_dict_metadata
        wanted = {key: _empty(like.get(_owner(key)), entry) for key, entry in written.items()}
        with _quietly():
            load(
                wanted,
                storage_reader=reader,
                process_group=optimizer.ranks.group,
                no_dist=optimizer.ranks.size == 1,
            )
        run = _from_bytes(wanted.pop(_RUN))
        state = {
            index: {
                key: wanted[f"{_STATE}{index}/{key}"]
                if f"{_STATE}{index}/{key}" in wanted
                else run["plain"][index][key]
                for key in keys
            }
            for index, keys in run["order"].items()
        }
    except (Exception, CheckpointException) as error:
        raise CheckpointError(
            f"{path} is damaged ({_cause(error)}): remove it to go on from an older one."
        ) from error
    stored = {k.removeprefix(_STORED): v for k, v in wanted.items() if k.startswith(_STORED)}
    weights = {k.removeprefix(_MODEL): v for k, v in wanted.items() if k.startswith(_MODEL)}
    before = {name: value.clone() for name, value in unwrapped(model).state_dict().items()}
    _load_model(unwrapped(model), weights, path)
    try:
        optimizer.load_state_dict(
            {
                "state": state,
                "param_groups": run["param_groups"],
                "mirrormask": run["mirrormask"] | {"stored": stored},
            }
        )
    except CheckpointError:
        unwrapped(model).load_state_dict(before)
        raise
    others: dict[str, Any] = run["others"]
    return others


def _load_model(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    reshard(model)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} is of another model ({error}): resume with the model of the run."
        ) from error


def _complete(folder: Path) -> list[Path]:
    """Return the complete checkpoints in a folder, oldest first."""
    return sorted(path.parent for path in folder.glob(f"step-*/{_DONE}"))


def _like(model: nn.Module, optimizer: SparseOptimizer) -> dict[str, Tensor]:
    """Return, by the owner of an entry, a tensor that is sharded as it should be."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = model.state_dict()
    like = {f"{_STATE}{index}": parameter for index, parameter in enumerate(parameters)}
    like |= {_MODEL + name: value for name, value in state.items()}
    like |= {_STORED + name: value for name, value in state.items()}
    return like | {_STORED + weight.name: weight.parameter for weight in optimizer.weights.values()}


def _owner(key: str) -> str:
    """Return what an entry belongs to: a parameter's index, or a tensor's name."""
    if key.startswith(_STATE):
        return key.rpartition("/")[0]
    return key.partition(":")[0] if key.startswith(_STORED) else key


def _empty(like: Tensor | None, entry: Any) -> Tensor:
    size, dtype = entry.size, entry.properties.dtype
    if like is not None and is_sharded(like) and tuple(like.shape) == tuple(size):
        return torch.empty_like(like, dtype=dtype, requires_grad=False)
    return torch.empty(size, dtype=dtype, device=None if like is None else like.device)


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
    return _short(f"{type(first).__name__}: {first}".rstrip(": "))


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _to_bytes(value: Any) -> Tensor:
    """Return a value as a tensor of bytes, so that it can be read without running code."""
    stream = io.BytesIO()
    torch.save(value, stream)
    return torch.frombuffer(bytearray(stream.getvalue()), dtype=torch.uint8)


def _from_bytes(data: Tensor) -> Any:
    return torch.load(io.BytesIO(data.numpy().tobytes()), weights_only=True)
