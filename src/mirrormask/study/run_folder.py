"""A run's folder: written whole or not at all, and never another run's."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mirrormask.errors import CheckpointError, OutputError

CONFIG = "config.json"


def new_run_folder(root: Path, name: str) -> Path:
    """Return a folder under ``root`` that does not exist yet: the name, numbered if need be."""
    number = 1
    while (folder := root / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return folder


def open_run_folder(folder: Path, config: dict[str, Any], *, resume: bool) -> None:
    """Create a run's folder with its settings, or check that an existing one has the same.

    Args:
        folder: Where the run lives.
        config: Its settings, plain values.
        resume: Go on with the run in the folder; a folder without one is begun.

    Raises:
        OutputError: If the folder cannot be written, or holds a run and ``resume`` is False.
        CheckpointError: If the run in the folder has other settings or a damaged config.
    """
    path = folder / CONFIG
    if path.exists():
        if not resume:
            raise OutputError(
                f"{folder} holds a run already: add --resume to go on with it, or give another "
                "--out."
            )
        _refuse_other_settings(path, config)
        return
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file: give a folder as --out.")
    if folder.is_dir() and any(entry.name != CONFIG for entry in folder.iterdir()):
        raise OutputError(
            f"{folder} is not empty and holds no run of mirrormask: give an empty or new folder as "
            "--out."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be created ({error.strerror}): give a folder as --out that you may "
            "write to."
        ) from error
    write_text(path, json.dumps(config, indent=2) + "\n")


def read_config(folder: Path) -> dict[str, Any]:
    """Return the settings of the run in a folder.

    Raises:
        CheckpointError: If there is no run or its settings are damaged.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} holds no run (no {CONFIG}): leave --resume out to begin one."
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}): the run cannot be resumed; begin a new one."
        ) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is damaged: the run cannot be resumed; begin a new one.")
    return config


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block succeeds.

    Raises:
        OutputError: If it cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}): free space, or give an --out that you "
            "may write to."
        ) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}): free space, or give an --out that you "
            "may write to."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file so that readers see all of it or what was there before."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of a killed run."""
    for path in folder.rglob(".*.part"):
        path.unlink(missing_ok=True)


def _refuse_other_settings(path: Path, config: dict[str, Any]) -> None:
    stored = read_config(path.parent)
    for key in sorted(config.keys() | stored.keys()):
        if stored.get(key) != config.get(key):
            raise CheckpointError(
                f"{path.parent} holds a run with {key}={stored.get(key)!r}, not "
                f"{config.get(key)!r}: resume it with its own settings, or give another --out."
            )
