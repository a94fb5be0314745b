from __future__ import annotations

import json
import re

import pytest
import safetensors.torch
import torch
import typer
from torch import nn
from typer.testing import CliRunner

from mirrormask.deploy import load, save
from mirrormask.deploy.commands import register
from mirrormask.errors import ArgumentError, CheckpointError, DataError, OutputError


@pytest.fixture
def run():
    app = typer.Typer()
    register(app)

    def invoke(*words):
        return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})

    return invoke


@pytest.fixture
def weights(tmp_path, sparsify):
    model = sparsify(nn.Linear(200, 100), 0.9)
    path = tmp_path / "dense.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    return path, model


def test_pack_inspect_unpack(run, weights, tmp_path):
    path, model = weights
    packed, back = tmp_path / "packed.safetensors", tmp_path / "back.safetensors"
    result = run("pack", path, packed)
    assert result.exit_code == 0
    assert "x smaller" in result.output
    assert torch.equal(load(packed)["weight"], model.weight)
    result = run("inspect", packed)
    assert result.exit_code == 0
    assert "rice" in result.output
    assert re.search(r"(89|90)\.\d\d%", result.output)
    assert run("pack", packed, back, "--unpack").exit_code == 0
    assert torch.equal(safetensors.torch.load_file(back)["weight"], model.weight)
    assert run("pack", path, packed, "--values", "int8", "--signed-zeros", "drop").exit_code == 0
    assert not torch.equal(load(packed)["weight"], model.weight)


def test_bench_of_a_built_model_with_packed_weights(run, tmp_path, monkeypatch):
    (tmp_path / "builders.py").write_text(
        "from torch import nn\n"
        "def net(): return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))\n"
        "def number(): return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    save(model, tmp_path / "packed")
    safetensors.torch.save_file(model.state_dict(), tmp_path / "plain")
    common = ("--example", "16", "--batch", "1,2", "--runtimes", "", "--rounds", 7)
    x = torch.randn(20, 16)
    data = {"inputs": x, "labels": model(x).argmax(dim=1)}
    safetensors.torch.save_file(data, tmp_path / "data")
    safetensors.torch.save_file({"inputs": x, "labels": x.clone()}, tmp_path / "odd")
    for weights in ("packed", "plain"):
        result = run(
            "bench",
            "builders:net",
            "--weights",
            weights,
            *common,
            "--data",
            "data",
            "--json",
            "out.json",
            "--picture",
            "out.png",
        )
        assert result.exit_code == 0, result.output
        assert "against best dense" in result.output
        assert "100.00%" in result.output
        assert len(json.loads((tmp_path / "out.json").read_text())["rows"]) == 4
        assert (tmp_path / "out.png").stat().st_size > 1000
    program = torch.export.export(model, (torch.randn(1, 16),))
    torch.export.save(program, tmp_path / "net.pt2")
    common = ("--example", "16", "--batch", "1", "--runtimes", "", "--rounds", 7)
    result = run("bench", "net.pt2", *common)
    assert result.exit_code == 0, result.exception
    for words, error in (
        (("builders:number", *common), ArgumentError),
        (("builders:net", "--data", "odd", *common), ArgumentError),
        (("builders:net", "--data", "plain", *common), ArgumentError),
        (("builders:nothing", *common), ArgumentError),
        (("builders", *common), ArgumentError),
        (("no.such:thing", *common), ArgumentError),
        (("missing.pt2", *common), DataError),
        (("builders:net", "--weights", "missing", *common), DataError),
        (("torch.nn:Identity", "--weights", "plain", *common), CheckpointError),
        (("builders:net", "--example", "x"), ArgumentError),
        (("builders:net",), ArgumentError),
        (("builders:net", "--example", "99999,99999,99"), ArgumentError),
        (("builders:net", "--example", "16", "--batch", "0"), ArgumentError),
        (("builders:net", "--example", "16", "--threads", "-2"), ArgumentError),
        (("builders:net", "--example", "16", "--runtimes", "tpu"), ArgumentError),
    ):
        assert isinstance(run("bench", *words).exception, error), words
    (tmp_path / "zip.pt2").write_bytes(b"PK nonsense")
    assert isinstance(run("bench", "zip.pt2", *common).exception, DataError)


def test_bad_files_and_options_raise_the_errors_that_the_main_program_prints(
    run, weights, tmp_path
):
    path, _ = weights
    broken = tmp_path / "broken"
    broken.write_bytes(path.read_bytes()[:50])
    for words, error in (
        (("pack", tmp_path / "missing", tmp_path / "out"), DataError),
        (("pack", broken, tmp_path / "out"), CheckpointError),
        (("pack", path, tmp_path / "no" / "out"), OutputError),
        (("pack", path, tmp_path / "out", "--values", "fp4"), ArgumentError),
        (("pack", path, tmp_path / "out", "--unpack"), CheckpointError),
        (("inspect", path), CheckpointError),
        (("inspect", tmp_path), DataError),
    ):
        result = run(*words)
        assert isinstance(result.exception, error), words
        assert not (tmp_path / "out").exists()
    assert run("pack", path).exit_code == 2
