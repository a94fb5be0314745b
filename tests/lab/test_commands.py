"""The command, run as a user runs it, on an application of its own."""

from __future__ import annotations

import csv
import html.parser
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mirrormask.errors import ArgumentError, MissingExtraError, OutputError
from mirrormask.lab.claims import CHECKS
from mirrormask.lab.commands import register


@pytest.fixture
def app() -> typer.Typer:
    application = typer.Typer()
    register(application)
    application.command("other")(lambda: None)
    return application


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        if tag == "a":
            self.links.append(found.get("href") or "")
        if tag in ("script", "link", "img", "iframe"):
            self.loads.append(tag)


def test_writes_one_page_that_needs_nothing_else(app: typer.Typer, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "theory"
    parts = "bending,budget,flips"
    result = CliRunner().invoke(
        app, ["theory", "--out", str(out), "--only", parts, "--seeds", "2", "--steps", "200"]
    )
    assert result.exit_code == 0, result.output
    page = (out / "theory.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert not tags.loads and "http-equiv" not in page
    assert page.count("<svg") == 3
    assert len(set(tags.ids)) == len(tags.ids)
    for link in tags.links:
        assert link[1:] in tags.ids if link.startswith("#") else (out / link).is_file(), link
    for name in parts.split(","):
        assert (out / "figures" / f"{name}.csv").stat().st_size > 100
    assert "findings:" in result.output and "claims:" not in result.output


def test_claims_are_measured_and_written(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheap = tuple(c for c in CHECKS if c.number in {"7", "10", "12", "20b"})
    monkeypatch.setattr("mirrormask.lab.claims.CHECKS", cheap)
    result = CliRunner().invoke(app, ["theory", "--out", str(tmp_path), "--only", "claims"])
    assert result.exit_code == 0, result.output
    assert "claims: 4 of 4 hold" in result.output
    rows = list(csv.DictReader((tmp_path / "claims.csv").open(encoding="utf-8")))
    assert [row["claim"] for row in rows] == ["7", "10", "12", "20b"]
    assert all(row["passed"] == "True" for row in rows)
    assert "4 of 4 hold" in (tmp_path / "theory.html").read_text(encoding="utf-8")


def test_folder_that_cannot_be_written_is_named_before_any_work(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setattr("mirrormask.lab.figures.gallery.FIGURES", {"start": pytest.fail})
    result = CliRunner().invoke(app, ["theory", "--out", str(blocked / "x"), "--only", "start"])
    assert isinstance(result.exception, OutputError)
    assert str(blocked) in str(result.exception) and "--out" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--only", "tea"], "tea"), (["--seeds", "1"], "seeds=1"), (["--steps", "5"], "steps=5")],
)
def test_bad_arguments_are_named(
    app: typer.Typer, tmp_path: Path, arguments: list[str], word: str
) -> None:
    result = CliRunner().invoke(app, ["theory", "--out", str(tmp_path), *arguments])
    assert isinstance(result.exception, ArgumentError)
    assert word in str(result.exception)


def test_missing_library_comes_with_the_install_command(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    result = CliRunner().invoke(app, ["theory", "--out", str(tmp_path), "--only", "bending"])
    assert isinstance(result.exception, MissingExtraError)
    assert "pip install 'mirrormask[lab]'" in str(result.exception)


def test_listing_the_commands_loads_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys, mirrormask.lab.commands as c; "
        "print(*{'scipy', 'sklearn', 'matplotlib', 'jinja2'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == ""
