"""Programs in files: the same network comes back, damage does not."""

from __future__ import annotations

import json
import random
import threading
import zlib

import numpy as np
import pytest
import torch
from torch import nn

import mirrormask as mm
from mirrormask import runtime
from mirrormask.deploy import save_program
from mirrormask.errors import (
    ArgumentError,
    CheckpointError,
    DataError,
    MirrormaskError,
    OutputError,
)
from mirrormask.files.container import ContainerReader, NewPart, write_container
from mirrormask.kernels import kernel_status
from mirrormask.runtime.program_file import write_program

pytestmark = pytest.mark.skipif(not kernel_status().active, reason="no compiled kernels")


def net():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 16, 9),
    )
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.ndim >= 2):
            weight.masked_fill_(torch.rand(weight.shape) < 0.7, 0.0)
    return model.eval()


X = torch.randn(5, 2, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def path(tmp_path):
    save_program(net(), X[:1], tmp_path / "net.program")
    return tmp_path / "net.program"


def test_any_number_of_examples_runs(path):
    program = runtime.load(path)
    for count in (0, 1, 2, 5):
        for threads in (1, 3):
            found = program(X[:count].numpy(), threads=threads)
            assert found.shape == (count, 9)
            assert np.allclose(found, net()(X[:count]).detach().numpy(), atol=1e-5)


def test_parts_of_several_examples_are_filled_up(tmp_path):
    model = nn.Sequential(nn.Linear(6, 40)).eval()
    x = torch.randn(7, 6)
    from mirrormask.deploy.runner import plan

    write_program(tmp_path / "p", plan(model, (x[:4],)))
    program = runtime.load(tmp_path / "p")
    assert program.description.part == 4
    assert np.allclose(program(x.numpy()), model(x).detach().numpy(), atol=1e-5)


class Varied(nn.Module):
    """Steps with parameters, masks and parts of buffers: gates, clamps, a norm, a join, padding."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
        self.norm, self.gate = nn.LayerNorm(6), nn.Conv2d(6, 6, 1)

    def forward(self, x):
        y = nn.functional.hardtanh(self.a(x), -0.5, 2.0)
        y = self.norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        return self.b(nn.functional.pad(torch.cat([y, x], 1), (0, 1, 2, 0)))


def test_steps_of_every_kind_come_back(tmp_path):
    torch.manual_seed(0)
    model = Varied().eval()
    save_program(model, X[:4], tmp_path / "net.program")
    found = runtime.load(tmp_path / "net.program")(X[:4].numpy())
    assert np.allclose(found, model(X[:4]).detach().numpy(), atol=1e-5)


def test_the_description_comes_back_exactly(path, tmp_path):
    one = runtime.load(path).description
    write_program(tmp_path / "again", one)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    two = runtime.load(tmp_path / "again").description
    assert np.array_equal(one.indices(), two.indices())
    assert (one.inputs, one.outputs, one.labels) == (two.inputs, two.outputs, two.labels)


def test_a_compiled_program_is_written_as_it_is(tmp_path, programs_win):

    model = nn.Sequential(nn.Linear(600, 700), nn.ReLU(), nn.Linear(700, 500)).eval()
    with torch.no_grad():
        for weight in (model[0].weight, model[2].weight):
            weight.masked_fill_(torch.rand(weight.shape) < 0.98, 0.0)
    x = torch.randn(8, 600)
    fast = mm.compile(model, x)
    assert fast.speed_report.plan.part
    report = save_program(fast, x, tmp_path / "p")
    assert report.part == fast.speed_report.plan.part
    assert report.file_bytes == (tmp_path / "p").stat().st_size < 600 * 700 * 4 * 0.06
    found = runtime.load(tmp_path / "p")(x.numpy())
    assert np.array_equal(found, fast(x).numpy())


def test_wrong_inputs_are_named(path):
    program = runtime.load(path)
    with pytest.raises(ArgumentError, match=r"planned for \[n, 2, 16, 16\]"):
        program(np.zeros((1, 2, 16, 15)))
    with pytest.raises(ArgumentError, match="give 1"):
        program(X.numpy(), X.numpy())
    assert next(label for label, _ in program.profile(X.numpy())) == "copy"


def test_models_without_a_program_and_wrong_results_leave_no_file(tmp_path, monkeypatch):
    class Odd(nn.Module):
        def forward(self, x):
            return torch.sin(x)

    with pytest.raises(ArgumentError, match=r"operator sin .* export it as \.onnx"):
        save_program(Odd(), X, tmp_path / "p")
    with pytest.raises(ArgumentError, match="by position"):
        save_program(net(), {"input": X}, tmp_path / "p")
    monkeypatch.setattr("mirrormask.deploy.program_saving.output_error", lambda *_: 0.5)
    with pytest.raises(OutputError, match="wrong by 5"):
        save_program(net(), X, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_other_files_are_refused(tmp_path, path):
    with pytest.raises(DataError):
        runtime.load(tmp_path / "nothing")
    (tmp_path / "text").write_text("no program at all, just text")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        runtime.load(tmp_path / "text")
    from mirrormask.deploy import load, save

    save(net(), tmp_path / "packed")
    with pytest.raises(CheckpointError, match="is no program"):
        runtime.load(tmp_path / "packed")
    with pytest.raises(CheckpointError, match="is not a packed file"):
        load(path)


def test_no_flipped_byte_goes_unseen_or_crashes(path, tmp_path):
    good = bytearray(path.read_bytes())
    random.seed(0)
    for _ in range(300):
        bad = bytearray(good)
        bad[random.randrange(len(bad))] ^= 1 << random.randrange(8)
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(MirrormaskError):
            runtime.load(tmp_path / "bad")
    for length in (0, 7, 50, len(good) - 1):
        (tmp_path / "bad").write_bytes(good[:length])
        with pytest.raises(CheckpointError):
            runtime.load(tmp_path / "bad")


def forged(path, target, change):
    """Write a file again with another table of contents and parts, all checksums made good."""
    with ContainerReader(path) as reader:
        table = json.loads(reader.metadata["mirrormask_program"])
        parts = {name: (part.dtype, reader.read(part)) for name, part in reader.parts.items()}
    arrays = {
        name: raw.view({"U8": "u1", "I32": "<i4", "I64": "<i8", "F32": "<f4"}[kind])
        for name, (kind, raw) in parts.items()
    }
    change(table, arrays)
    written = [
        NewPart(name=name, dtype=parts[name][0], shape=array.shape, data=array)
        for name, array in arrays.items()
    ]
    table["crc32"] = {name: zlib.crc32(array.tobytes()) for name, array in arrays.items()}
    text = json.dumps(table)
    crc = f"{zlib.crc32(text.encode()):08x}"
    write_container(target, written, {"mirrormask_program": text, "mirrormask_program_crc32": crc})


def test_a_newer_version_says_update(path, tmp_path):
    forged(path, tmp_path / "new", lambda table, _: table.update(version=3))
    with pytest.raises(CheckpointError, match=r"version 3, newer than 2.*update mirrormask"):
        runtime.load(tmp_path / "new")


@pytest.mark.parametrize(
    "change",
    [
        lambda t, a: t.update(arena=10),
        lambda t, a: t.update(arena=-1),
        lambda t, a: t.update(arena="x"),
        lambda t, a: t.update(labels=[]),
        lambda t, a: t.update(inputs=[]),
        lambda t, a: t.update(inputs=[["x", [0, 2]]]),
        lambda t, a: t.update(inputs=[["x", [1, 2, 16, 15]]]),
        lambda t, a: t.update(outputs=[["y", [1, 8]]]),
        lambda t, a: t["matrices"].pop(),
        lambda t, a: t["matrices"][0].update(rows=7),
        lambda t, a: t["matrices"][0].update(rows=2**40),
        lambda t, a: t["matrices"][0].update(nonzeros=1),
        lambda t, a: t["matrices"][0].update(layout="zip"),
        lambda t, a: a["0.places"].__setitem__(slice(None), 2**30),
        lambda t, a: a["0.places"].__setitem__(slice(None), -(2**30)),
        lambda t, a: a.update(constants=a["constants"][:5]),
        lambda t, a: a.update(masks=a["masks"][:5]),
    ],
)
def test_forged_files_are_refused(path, tmp_path, change):
    forged(path, tmp_path / "bad", change)
    with pytest.raises(CheckpointError):
        runtime.load(tmp_path / "bad")


def test_forged_steps_are_refused_or_harmless(path, tmp_path):
    random.seed(1)
    refused = 0
    for _ in range(200):

        def change(table, arrays):
            steps = arrays["steps"]
            at = random.randrange(steps.size)
            steps[at] = random.choice([-1, 0, 1, 2**31, 2**40, -(2**40), 2**62, steps[at] + 1])

        forged(path, tmp_path / "bad", change)
        try:
            program = runtime.load(tmp_path / "bad")
        except CheckpointError:
            refused += 1
            continue
        program(X.numpy())
    assert refused > 20


def test_python_threads_may_share_a_program(path):
    program = runtime.load(path)
    expected, wrong = program(X.numpy()), []

    def work(threads):
        for _ in range(40):
            if not np.array_equal(program(X.numpy(), threads=threads), expected):
                wrong.append(threads)

    workers = [threading.Thread(target=work, args=(1 + index % 2,)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
