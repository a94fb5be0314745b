"""What a user of the command line sees when something is wrong: one sentence, exit code 2."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from mirrormask.cli import run

SMALL = ["--data", "digits", "--model", "mlp", "--epochs", "1"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["train", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--sparsity", "1.0"], ["sparsity=1.0", "[0, 1)"]),
        (["--sparsity", "95"], ["sparsity=95", "0.95"]),
        (["--sparsity", "nan"], ["sparsity=nan"]),
        (["--epochs", "0"], ["epochs=0", "at least 1"]),
        (["--lr", "-1"], ["lr=-1.0", "positive"]),
        (["--lr", "nan"], ["lr=nan"]),
        (["--seed", "-1"], ["seed=-1"]),
        (["--batch-size", "0"], ["batch_size=0"]),
        (["--threads", "0"], ["threads=0"]),
        (["--data", "fashion"], ["'fashion'", "did you mean 'fashion-mnist'"]),
        (["--model", "cnnn"], ["'cnnn'", "did you mean 'cnn'"]),
        (["--method", "pilott"], ["'pilott'", "did you mean 'pilot'"]),
        (["--data", "cifar10-jpeg", "--data-root", "/nonexistent/x.npz"], ["/nonexistent/x.npz"]),
        (["--resume"], ["--resume", "--out"]),
    ],
)
def test_bad_options_are_named(
    arguments: list[str],
    named: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    error = refused(capsys, *arguments)
    for part in named:
        assert part in error
    assert not list(tmp_path.iterdir()), "nothing may be left half-written"


def test_option_of_a_wrong_type_is_refused_by_the_parser(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["train", "--epochs", "many"]) == 2
    assert "--epochs" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut"])
def test_damaged_data_file(
    content: bytes, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "cifar10_jpeg.npz"
    path.write_bytes(content)
    out = tmp_path / "run"
    error = refused(capsys, "--data", "cifar10-jpeg", "--data-root", str(path), "--out", str(out))
    assert str(path) in error
    assert not out.exists()


def test_output_folder_that_is_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    assert str(path) in refused(capsys, *SMALL, "--out", str(path))
    assert path.read_text() == "precious"


def test_output_folder_under_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    assert "--out" in refused(capsys, *SMALL, "--out", str(path / "run"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_output_folder_where_nobody_may_write(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--out" in refused(capsys, *SMALL, "--out", "/proc/mirrormask")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_output_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert "--out" in refused(capsys, *SMALL, "--out", str(tmp_path / "run"))


def test_folder_of_other_things_is_left_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    assert "not empty" in refused(capsys, *SMALL, "--out", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_resume_where_there_is_no_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "holds no run" in refused(capsys, "--resume", "--out", str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_learning_rate_that_explodes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    error = refused(capsys, *SMALL, "--lr", "1e30", "--out", str(out))
    assert "loss became" in error
    assert "1e+30" in error
    assert not (out / "model.safetensors").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    assert run(["train", *SMALL, "--out", str(out)]) == 0
    return out


def test_run_leaves_everything(finished: Path) -> None:
    names = {"config.json", "metrics.csv", "report.json", "report.html", "model.safetensors"}
    assert names <= {path.name for path in finished.iterdir()}
    report = json.loads((finished / "report.json").read_text())
    assert report["achieved"] == pytest.approx(0.95, abs=1e-4)
    zeros = sum(tensor["zeros"] for tensor in report["tensors"])
    assert zeros == report["asked_zeros"]


def test_second_run_in_the_same_folder(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "model.safetensors").read_bytes()
    assert "--resume" in refused(capsys, *SMALL, "--out", str(finished))
    assert (finished / "model.safetensors").read_bytes() == before


def test_resume_of_a_finished_run_changes_nothing(finished: Path) -> None:
    before = (finished / "report.html").read_bytes()
    assert run(["train", "--out", str(finished), "--resume"]) == 0
    assert (finished / "report.html").read_bytes() == before


def test_resume_with_other_settings(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, "--out", str(finished), "--resume", "--sparsity", "0.5")
    assert "sparsity=0.95" in error
    assert "0.5" in error


@pytest.fixture
def unfinished(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the run as a kill before its last lines would have left it."""
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    for name in ("result.json", "model.safetensors"):
        (out / "sparse" / name).unlink()
    return out


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "text"])
def test_damaged_checkpoint(
    damage: str, unfinished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = unfinished / "sparse" / "last.ckpt"
    content = path.read_bytes()
    if damage == "foreign":
        shutil.copyfile(unfinished / "dense" / "last.ckpt", path)
    else:
        path.write_bytes(
            {"cut": content[: len(content) // 2], "empty": b"", "text": b"hello"}[damage]
        )
    error = refused(capsys, "--out", str(unfinished), "--resume")
    assert "checkpoint" in error or str(path) in error
    assert not (unfinished / "sparse" / "model.safetensors").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"epochs": 3}'])
def test_damaged_config(text: str, unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (unfinished / "config.json").write_text(text)
    refused(capsys, "--out", str(unfinished), "--resume")


def test_methods_lists_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    from mirrormask import METHODS

    assert run(["methods"]) == 0
    listed = capsys.readouterr().out
    for name in METHODS:
        assert name in listed
