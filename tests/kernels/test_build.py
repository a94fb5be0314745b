"""Compiling the kernels: where it works, under sanitizers, and where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mirrormask.kernels import build as builder

HARNESSES = ["fuzz", "fuzz_live", "fuzz_program"]


def harness(built_once, name, library, flags):
    """Build a fuzzing program for a library that was built with the same flags."""
    main = Path(__file__).with_name(f"{name}.c")
    return built_once(
        f"{library.stem}-{name}",
        lambda target: builder.build(target, main=main, library=library, flags=flags),
    )


@pytest.fixture(scope="module", params=HARNESSES)
def sanitized(request, built_once):
    """A fuzzing program under sanitizers, or without them where the compiler has none."""
    try:
        builder.compiler()
    except builder.BuildError as error:
        pytest.skip(str(error))

    def program(name, flags):
        library = built_once(name, lambda target: builder.build(target, flags=flags))
        return harness(built_once, request.param, library, flags)

    try:
        return program("sanitized.so", builder.SANITIZERS)
    except builder.BuildError:
        return program("plain.so", ())


@pytest.mark.parametrize("seed", ["1", "2"])
def test_random_calls_are_right_and_clean_under_sanitizers(sanitized, run, seed):
    assert run(sanitized, "2500", seed) == "2500 cases\n"


@pytest.mark.parametrize("name", HARNESSES)
def test_the_wrong_sum_would_be_found(tmp_path, monkeypatch, built_once, run, name):
    """The harness is no rubber stamp: a kernel that forgets its bias does not pass."""
    source = tmp_path / "source"
    source.mkdir()
    for path in builder.SOURCE.iterdir():
        text = path.read_text().replace("w->bias ? w->bias[r] : 0.0f", "0.0f")
        (source / path.name).write_text(text)
    monkeypatch.setattr(builder, "SOURCE", source)
    try:
        library = built_once("biased.so", lambda target: builder.build(target, flags=("-O1",)))
    except builder.BuildError as error:
        pytest.skip(str(error))
    with pytest.raises(AssertionError, match=r"linear: code 0|conv: code 0|accepted 1"):
        run(harness(built_once, name, library, ("-O1",)), "200", "1")


def test_without_a_compiler_the_reason_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "/nonexistent/cc -O2")
    with pytest.raises(builder.BuildError, match="/nonexistent/cc was not found"):
        builder.build(tmp_path / "kernels.so")
    monkeypatch.setenv("CC", "gcc '-O2")
    with pytest.raises(builder.BuildError, match="No closing quotation"):
        builder.build(tmp_path / "kernels.so")
    assert not list(tmp_path.iterdir())


def test_a_compiler_that_fails_leaves_nothing(tmp_path, monkeypatch):
    fake = tmp_path / "bad"
    fake.write_text("#!/bin/sh\necho 'x.c: error: no such thing' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CC", str(tmp_path / "bad"))
    target = tmp_path / "out" / "kernels.so"
    target.parent.mkdir()
    with pytest.raises(builder.BuildError, match=r"failed: x\.c: error: no such thing"):
        builder.build(target)
    assert not list(target.parent.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(builder.BuildError, match=r"(cannot be written|was not found)"):
        builder.build(tmp_path / "missing" / "kernels.so")


def test_the_builder_needs_nothing_but_the_standard_library():
    script = (
        f"import runpy, sys; runpy.run_path({builder.__file__!r}); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.stdout == "False\n"
