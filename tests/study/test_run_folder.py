"""Run folders: whole files or none, and never another run's."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrormask.errors import CheckpointError, OutputError
from mirrormask.study.run_folder import (
    new_run_folder,
    open_run_folder,
    read_config,
    remove_leftovers,
    replacing,
    write_text,
)

CONFIG = {"epochs": 3, "lr": 0.1}


def test_names_are_numbered(tmp_path: Path) -> None:
    assert new_run_folder(tmp_path, "run") == tmp_path / "run"
    (tmp_path / "run").mkdir()
    (tmp_path / "run-2").mkdir()
    assert new_run_folder(tmp_path, "run") == tmp_path / "run-3"


def test_settings_are_kept_and_compared(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    open_run_folder(folder, CONFIG, resume=False)
    assert read_config(folder) == CONFIG
    open_run_folder(folder, CONFIG, resume=True)
    with pytest.raises(CheckpointError, match=r"epochs=3, not 4"):
        open_run_folder(folder, CONFIG | {"epochs": 4}, resume=True)
    with pytest.raises(OutputError, match="--resume"):
        open_run_folder(folder, CONFIG, resume=False)


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_full_or_missing_place_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_text(tmp_path / "missing" / "file", "text")


def test_leftovers_of_a_kill_are_removed(tmp_path: Path) -> None:
    (tmp_path / "dense").mkdir()
    (tmp_path / "dense" / ".last.ckpt.x1.part").write_text("half")
    (tmp_path / "dense" / "last.ckpt").write_text("whole")
    remove_leftovers(tmp_path)
    assert [path.name for path in (tmp_path / "dense").iterdir()] == ["last.ckpt"]
