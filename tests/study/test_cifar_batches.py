"""CIFAR's own files are read as they are, from a folder or the archive; others are refused."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from mirrormask.errors import DataError
from mirrormask.study.cifar_batches import read_cifar10, read_cifar100


def write(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, 2))


def images(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)


@pytest.fixture
def cifar10(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    for number in range(1, 6):
        labels = [(number + i) % 10 for i in range(4)]
        write(folder / f"data_batch_{number}", {b"data": images(4, number), b"labels": labels})
    write(folder / "test_batch", {b"data": images(3, 9), b"labels": [1, 2, 3]})
    write(folder / "batches.meta", {b"label_names": [b"c%d" % i for i in range(10)]})
    return folder


@pytest.fixture
def cifar100(tmp_path):
    folder = tmp_path / "cifar-100-python"
    for name, n in (("train", 6), ("test", 2)):
        labels = list(range(90, 90 + n))
        content = {b"data": images(n, n), b"fine_labels": labels, b"coarse_labels": [0] * n}
        write(folder / name, content)
    write(folder / "meta", {b"fine_label_names": [f"c{i}" for i in range(100)]})
    return folder


def packed(folder: Path) -> Path:
    path = folder.parent / f"{folder.name.replace('-batches-py', '-python')}.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    return path


def test_batches_are_joined_in_order_with_planes_of_rows(cifar10):
    raw = read_cifar10(cifar10)
    assert raw.train_images.shape == (20, 3, 32, 32)
    expected = np.concatenate([images(4, number) for number in range(1, 6)])
    # Row y and column x of channel c is byte 1024 c + 32 y + x, as the authors' page says.
    assert raw.train_images[7, 2, 5, 6] == expected[7, 2 * 1024 + 5 * 32 + 6]
    assert np.array_equal(raw.train_images.reshape(20, -1), expected)
    assert raw.train_labels[:5].tolist() == [1, 2, 3, 4, 2]
    assert raw.test_labels.tolist() == [1, 2, 3]
    assert raw.classes[3] == "c3"


def test_cifar100_has_fine_labels(cifar100):
    raw = read_cifar100(cifar100)
    assert raw.train_labels.tolist() == [90, 91, 92, 93, 94, 95]
    assert len(raw.classes) == 100


@pytest.mark.parametrize("where", ["folder", "parent", "archive", "archive's folder"])
def test_every_usual_place_gives_the_same(cifar10, cifar100, tmp_path, where):
    for folder, read in ((cifar10, read_cifar10), (cifar100, read_cifar100)):
        expected = read(folder)
        place = {"folder": folder, "parent": tmp_path}.get(where)
        if place is None:
            archive = packed(folder)
            alone = tmp_path / f"alone-{folder.name}"
            alone.mkdir()
            place = archive if where == "archive" else alone
            archive.rename(alone / archive.name)
            place = alone / archive.name if where == "archive" else alone
        raw = read(place)
        assert np.array_equal(raw.train_images, expected.train_images)
        assert np.array_equal(raw.test_labels, expected.test_labels)


def test_missing_places_and_members_are_named(cifar10, tmp_path):
    with pytest.raises(DataError, match="no place was given"):
        read_cifar10(None)
    with pytest.raises(DataError, match=r"neither cifar-100-python\.tar\.gz nor cifar-100-python"):
        read_cifar100(tmp_path / "elsewhere")
    (cifar10 / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3 cannot be read"):
        read_cifar10(cifar10)
    with pytest.raises(DataError, match="no member cifar-10-batches-py/data_batch_3"):
        read_cifar10(packed(cifar10))


def test_a_damaged_archive_is_refused(cifar10):
    archive = packed(cifar10)
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(DataError, match="no readable archive"):
        read_cifar10(archive)


class Runs:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({b"data": images(2, 0), b"labels": Runs()}, "wants to load .*print"),
        ([1, 2], "holds a list, not a mapping"),
        ({b"data": images(2, 0)[:, :-1], b"labels": [0, 1]}, "rows of 3071 bytes"),
        ({b"data": images(2, 0).astype(float), b"labels": [0, 1]}, "no rows of bytes"),
        ({b"data": images(2, 0)}, "no list of labels"),
        ({b"data": images(2, 0), b"labels": ["a", "b"]}, "no list of labels"),
        ({b"data": images(2, 0), b"labels": [0]}, "18 training images but 17 labels"),
        ({b"data": images(2, 0), b"labels": [0, 10]}, "there are 10 classes"),
    ],
)
def test_files_that_are_something_else_are_refused(cifar10, content, message):
    write(cifar10 / "data_batch_2", content)
    with pytest.raises(DataError, match=message):
        read_cifar10(cifar10)
