"""The paper's recipes say what is known, and run end to end on a few images in the real formats."""

from __future__ import annotations

import pickle
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirrormask.cli import run
from mirrormask.study.compare.options import chosen_settings, read_recipe, recipes
from mirrormask.study.compare.records import RUNS, Records

NAMES = ["cifar10-resnet20", "cifar100-resnet18", "imagenet-resnet50"]


def rows(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 3072), dtype=np.uint8)


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    """Write a few images in each set's own format: batches, an archive, folders of JPEG files."""
    ten = tmp_path / "ten" / "cifar-10-batches-py"
    hundred = tmp_path / "hundred" / "cifar-100-python"
    labels = list(range(10))
    files = {
        **{ten / f"data_batch_{i}": {b"data": rows(10), b"labels": labels} for i in range(1, 6)},
        ten / "test_batch": {b"data": rows(10), b"labels": labels},
        ten / "batches.meta": {b"label_names": [b"c%d" % i for i in range(10)]},
        hundred / "train": {b"data": rows(20), b"fine_labels": [*range(80, 100)]},
        hundred / "test": {b"data": rows(5), b"fine_labels": [0, 1, 2, 3, 99]},
        hundred / "meta": {b"fine_label_names": [b"c%d" % i for i in range(100)]},
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(content, 2))
    archive = tmp_path / "cifar-100-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(hundred, arcname=hundred.name)
    folder = tmp_path / "imagenet"
    for part in ("train", "val"):
        for label, name in enumerate(("n01", "n02")):
            (folder / part / name).mkdir(parents=True)
            for i in range(2):
                pixels = np.full((40, 48, 3), 60 * label + 10 * i, np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{i}.JPEG", "JPEG")
    return {NAMES[0]: ten.parent, NAMES[1]: archive, NAMES[2]: folder}


def arguments(name: str, root: Path, out: Path, methods: str) -> list[str]:
    """Ask for the recipe at toy size: everything else is the recipe's own."""
    toy = ["--device", "cpu", "--epochs", "2", "--seeds", "1", "--sparsities", "0.9"]
    size = ["--images", "12" if name != NAMES[2] else "4"]
    what = ["--recipe", name, "--data-root", str(root), "--methods", methods, "--out", str(out)]
    return [*what, *toy, *size]


def test_these_are_the_recipes():
    assert recipes() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_holds_what_the_papers_say(name):
    settings = read_recipe(name)
    (problem,) = settings.problems
    levels = [1 - 0.8**k for k in (2, 5, 10, 15, 20, 25)]
    assert settings.sparsities == pytest.approx(levels, abs=1e-6)
    assert settings.seeds == (0, 1, 2)
    assert settings.methods == ("magnitude", "pilot-paper", "wr", "lrr", "pilot-wr", "pilot-lrr")
    assert (problem.optimizer, problem.batch_size) == ("sgd", 256)
    own = {o.method: o for o in settings.overrides}
    for method in ("wr", "lrr", "pilot-wr", "pilot-lrr"):
        assert dict(own[method].knobs)["cycles"] == 25
        assert own[method].epochs == 26 * problem.epochs
        assert (1 - own[method].sparsities[0]) ** (1 / 25) == pytest.approx(0.8, abs=1e-6)
    if name == "imagenet-resnet50":
        assert problem.epochs == 100
        assert problem.lr.default == 0.256
        assert (problem.momentum, problem.weight_decay) == (0.875, 2**-15)
        assert (problem.warmup_epochs, problem.label_smoothing) == (5, 0.1)
    else:
        assert problem.epochs == 150
        assert (problem.lr.default, own["pilot-paper"].lr.default) == (0.1, 0.2)
        assert (problem.momentum, problem.weight_decay) == (0.9, 1e-4)
    assert problem.schedule == ("step" if name == "cifar100-resnet18" else "cosine")
    assert {"alpha", "delta", "K", "rewinding", "levels"} <= dict(settings.ours).keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[:2])
def test_a_cifar_recipe_runs_whole_and_prints_its_cost_first(name, roots, tmp_path, capsys):
    out = tmp_path / "out"
    methods = "magnitude,pilot-paper,wr,pilot-wr,lrr,pilot-lrr" if name == NAMES[0] else "pilot-lrr"
    assert run(["compare", *arguments(name, roots[name], out, methods)]) == 0
    printed = capsys.readouterr().out
    cost = printed.index("Planned cost")
    assert cost < printed.index("1/")
    table = " ".join(printed[cost : printed.index("1/")].split())
    count = 1 + len(methods.split(","))
    assert f"│ all │ │ {count} │ {2 * count} │ {24 * count} │" in table
    assert "What the paper leaves open" in printed
    page = (out / "report.html").read_text()
    assert "What the paper leaves open" in page
    assert dict(read_recipe(name).ours)["rewinding"] in page
    check(Records.read(out / RUNS), count)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_imagenet_recipe_runs_and_goes_on_after_a_kill(roots, tmp_path, start):
    name, out = NAMES[2], tmp_path / "out"
    typed = arguments(name, roots[name], out, "pilot-paper")
    process = start(*typed)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "1/2 done" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    printed = "".join(lines)
    assert printed.index("Planned cost") < printed.index("1/2 done")
    assert run(["compare", *typed, "--patience", "1"]) == 0
    check(Records.read(out / RUNS), 2)


def check(records: Records, count: int) -> None:
    assert [r["outcome"] for r in records.runs] == ["finished"] * count, records.runs
    for record in records.runs:
        assert record["epochs"] == 2
        asked = round(0.9 * record["weights"]) if record["method"] != "dense" else 0
        assert record["zeros"] == asked


def test_what_is_typed_goes_before_the_recipe_s_own():
    typed = {"epochs": 2, "sparsities": "0.5", "methods": "wr,gmp", "images": 9}
    settings = chosen_settings(None, NAMES[0], typed)
    assert {(c.problem.epochs, c.sparsity) for c in settings.cells} == {(2, 0.5), (2, 0.0)}
    assert [o.method for o in settings.overrides] == ["wr"]
    assert dict(settings.overrides[0].knobs) == {"cycles": 25}
    assert {p.images for p in settings.problems} == {9}
