"""The command from settings to page, in this process."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mirrormask.cli import run
from mirrormask.methods.registry import unregister
from mirrormask.study.compare.records import RUNS, Records

PLUGIN = """
from mirrormask.masking import AtEnd
from mirrormask.methods import Method, register
from mirrormask.optimizer import Recipe


class Unlucky(AtEnd):
    def cut_after(self, step, steps, sparsity):
        if step == 3:
            raise RuntimeError("a mistake")


register(Method(name="lucky", summary="as usual", source="here", build=Recipe))
register(Method(name="unlucky", summary="breaks", source="here",
                build=lambda: Recipe(masking=Unlucky())))
"""


@pytest.fixture
def short(tiny: Path) -> Path:
    """Make the tiny comparison shorter still."""
    tiny.write_text(tiny.read_text().replace("epochs: 6", "epochs: 1"))
    return tiny


def test_from_settings_to_page_and_on(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["compare", "--settings", str(short), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "12/12 done, 0 running, 0 left" in printed
    assert printed.count(" done, ") == 12
    assert "pilot is first at" in printed
    records = Records.read(out / RUNS)
    assert [r["outcome"] for r in records.runs] == ["finished"] * 12
    for record in records.runs:
        # 90 % of all targeted weights, to the weight.
        asked = round(record["sparsity"] * record["weights"])
        assert record["zeros"] == asked or record["method"] == "dense"
        assert sum(record["zeros_by_tensor"].values()) in {0, asked}
    text = (out / RUNS).read_text()
    assert str(tmp_path) not in text

    # Once more: nothing is run again, and the page comes out the same.
    page = (out / "report.html").read_text()
    assert run(["compare", "--settings", str(short), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "12 of 12 runs were done before" in printed
    assert " left" not in printed
    assert (out / RUNS).read_text() == text
    assert (out / "report.html").read_text() == page

    # One method and one seed more: only those are run.
    options = ["--methods", "pilot,gmp,magnitude", "--seeds", "3"]
    assert run(["compare", "--settings", str(short), "--out", str(out), *options]) == 0
    printed = capsys.readouterr().out
    assert printed.count(" done, ") == 3 + 5
    before = {record["run"]: record for record in records.runs}
    after = {record["run"]: record for record in Records.read(out / RUNS).runs}
    assert len(after) == 20
    assert before.items() <= after.items()

    assert run(["compare", "--settings", str(short), "--out", str(out), "--trials", "5"]) == 2
    assert "trials=2, not 5" in " ".join(capsys.readouterr().err.split())


def test_goes_on_from_the_runs_alone(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    assert run(["compare", "--settings", str(short), "--out", str(out)]) == 0
    elsewhere.mkdir()
    text = (out / RUNS).read_text()
    (elsewhere / RUNS).write_text(text)
    capsys.readouterr()
    assert run(["compare", "--settings", str(short), "--out", str(elsewhere)]) == 0
    assert "12 of 12 runs were done before" in capsys.readouterr().out
    assert (elsewhere / RUNS).read_text() == text

    # One method again, the others as they are.
    (elsewhere / "study.db").unlink()
    arguments = ["compare", "--settings", str(short), "--out", str(elsewhere)]
    assert run([*arguments, "--redo", "gmp,dense"]) == 0
    assert capsys.readouterr().out.count(" done, ") == 8
    again = {r["run"]: r["digest"] for r in Records.read(elsewhere / RUNS).runs}
    before = {r["run"]: r["digest"] for r in Records.read(out / RUNS).runs}
    assert {name for name in before if before[name] != again[name]} == {
        name for name in before if "/pilot/" not in name
    }

    # Results of other settings are not written over.
    (elsewhere / "study.db").unlink()
    (elsewhere / RUNS).write_text(text)
    short.write_text(short.read_text().replace("epochs: 1", "epochs: 2"))
    assert run(arguments) == 2
    assert "12 runs that are not of this comparison" in " ".join(capsys.readouterr().err.split())
    assert (elsewhere / RUNS).read_text() == text
    short.write_text(short.read_text().replace("epochs: 2", "epochs: 1"))
    assert run(arguments) == 0

    (elsewhere / RUNS).write_text('{"format": 1')
    assert run(arguments) == 2
    assert "damaged" in capsys.readouterr().err


def test_page_is_drawn_from_the_runs_alone(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    assert run(["compare", "--settings", str(short), "--out", str(out), "--seeds", "1"]) == 0
    page = (out / "report.html").read_text()
    elsewhere.mkdir()
    (elsewhere / RUNS).write_text((out / RUNS).read_text())
    assert run(["compare", "--report-only", "--out", str(elsewhere)]) == 0
    assert (elsewhere / "report.html").read_text() == page
    assert sorted(p.name for p in elsewhere.iterdir()) == ["report.html", RUNS]

    assert run(["compare", "--report-only", "--out", str(tmp_path / "none")]) == 2
    assert "runs.json cannot be read" in " ".join(capsys.readouterr().err.split())
    (elsewhere / RUNS).write_text("{")
    assert run(["compare", "--report-only", "--out", str(elsewhere)]) == 2
    assert "damaged" in capsys.readouterr().err
    content = json.loads((out / RUNS).read_text()) | {"format": 99}
    (elsewhere / RUNS).write_text(json.dumps(content))
    assert run(["compare", "--report-only", "--out", str(elsewhere)]) == 2
    assert "another format" in capsys.readouterr().err


def test_methods_of_a_plugin_and_what_breaks(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    out = tmp_path / "out"
    command = ["compare", "--settings", str(short), "--out", str(out), "--plugin", str(plugin)]
    try:
        assert run([*command, "--methods", "lucky,unlucky", "--seeds", "1"]) == 0
        printed = capsys.readouterr().out
        runs = Records.read(out / RUNS).runs
        broken = [record for record in runs if record["outcome"] == "crashed"]
        assert len(broken) == 3
        assert {record["method"] for record in broken} == {"unlucky"}
        assert "RuntimeError: a mistake (mine.py:10)" in broken[0]["error"]
        assert "3 runs crashed" in printed
        assert "--redo unlucky" in printed
        page = (out / "report.html").read_text()
        assert "RuntimeError: a mistake" in page

        plugin.write_text(PLUGIN.replace('raise RuntimeError("a mistake")', "return None"))
        unregister("lucky")
        unregister("unlucky")
        import sys

        del sys.modules["mirrormask_plugin_mine"]
        again = [*command, "--methods", "lucky,unlucky", "--seeds", "1"]
        assert run([*again, "--redo", "unlucky"]) == 0
        assert capsys.readouterr().out.count(" done, ") == 3
        assert {record["outcome"] for record in Records.read(out / RUNS).runs} == {"finished"}
    finally:
        unregister("lucky")
        unregister("unlucky")


def test_two_processes_of_one_command(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["compare", "--settings", str(short), "--out", str(out), "--workers", "2"]) == 0
    assert "12/12 done" in capsys.readouterr().out
    assert len(Records.read(out / RUNS).runs) == 12


def test_page_is_one_whole_file(short: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["compare", "--settings", str(short), "--out", str(out), "--sparsities", "0.5,0.9"]
    assert run(command) == 0
    page = (out / "report.html").read_text()
    assert not re.search(
        r"<script|https?://(?!www\.w3\.org|purl\.org|creativecommons|matplotlib)", page
    )
    assert page.count("<svg") == 3
    for picture in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(picture)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for text in ("Who wins where", "Paired differences to pilot", "50 % zeros", "Tuned learning"):
        assert text in page


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--settings", "missing.yaml"], ["missing.yaml", "cannot be read"]),
        (["--data", "digit"], ["'digit'", "did you mean 'digits'"]),
        (["--methods", "pilot,gpm"], ["'gpm'"]),
        (["--sparsities", "95"], ["95", "0.95"]),
        (["--workers", "0"], ["workers=0"]),
        (["--recipe", "imagenet-9"], ["'imagenet-9'"]),
        (["--plugin", "none.py"], ["none.py", "no Python file"]),
        (["--storage", "study.db"], ["study.db", "sqlite:///"]),
        (["--patience", "-1"], ["patience=-1.0"]),
        (["--redo", "gmpp"], ["'gmpp'", "did you mean 'gmp'"]),
    ],
)
def test_bad_options_are_named_and_leave_nothing(
    arguments: list[str],
    named: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["compare", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    for part in named:
        assert part in error
    assert not list(tmp_path.iterdir()), "nothing may be left half-written"
