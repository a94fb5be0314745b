"""Fashion-MNIST from a folder, as installed, downloaded, and the packaged subset."""

from __future__ import annotations

import gzip
import importlib.util
import zlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from mirrormask.errors import DataError
from mirrormask.study.fashion import (
    ARRAYS,
    PUBLIC,
    SUBSET_FILE,
    FashionSource,
    read_folder,
    read_subset,
    read_whole,
)

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_fashion_subset.py"


def assert_holds(raw, arrays) -> None:
    for name in ARRAYS:
        read = getattr(raw, name)
        expected = arrays[name][:, None] if name.endswith("images") else arrays[name]
        np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("inside", ["", "FashionMNIST/raw"])
def test_a_folder_is_read_in_either_layout(fashion_folder, tmp_path, suffix, inside):
    folder = fashion_folder(f"set/{inside}", suffix=suffix)
    assert_holds(read_whole(tmp_path / "set", tmp_path / "unused"), folder.arrays)
    assert not (tmp_path / "unused").exists()


def test_the_installed_folder_is_preferred_to_a_download(fashion_folder, server, tmp_path):
    folder = fashion_folder()
    source = FashionSource(installed=folder.path, origin=server.url, md5=folder.md5)
    assert_holds(read_whole(None, tmp_path / "cache", source=source), folder.arrays)
    assert server.requests == []


def test_the_whole_set_is_downloaded_once_and_repaired(fashion_folder, server, tmp_path):
    folder = fashion_folder()
    server.serve_folder(folder.path)
    source = FashionSource(installed=tmp_path / "no", origin=server.url, md5=folder.md5)
    cache = tmp_path / "cache"
    for _ in range(2):
        assert_holds(read_whole(None, cache, source=source), folder.arrays)
    assert sorted(server.requests) == sorted(folder.md5)
    damaged = cache / "fashion-mnist" / "train-labels-idx1-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:-3])
    assert_holds(read_whole(None, cache, source=source), folder.arrays)
    assert server.requests[4:] == [damaged.name]


def test_files_other_than_announced_are_not_used(fashion_folder, server, tmp_path):
    folder = fashion_folder()
    server.serve_folder(folder.path)
    source = FashionSource(installed=tmp_path / "no", origin=server.url, md5=PUBLIC.md5)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz has MD5"):
        read_whole(None, tmp_path / "cache", source=source)


def test_the_public_origin_is_encrypted_and_complete():
    assert PUBLIC.origin.startswith("https://")
    assert len(PUBLIC.md5) == 4


@pytest.mark.parametrize(
    "stem", ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"]
)
def test_a_missing_file_is_named(fashion_folder, stem):
    folder = fashion_folder().path
    (folder / f"{stem}-ubyte.gz").unlink()
    with pytest.raises(DataError, match=f"{folder} holds neither {stem}-ubyte.gz"):
        read_folder(folder)


def swapped(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "train-labels-idx1-ubyte.gz",
            lambda b: b[:4] + (59).to_bytes(4, "big") + b[8:-1],
            "60 training images but 59 labels",
        ),
        ("t10k-labels-idx1-ubyte.gz", lambda b: b[:-1] + b"\x0a", "test labels 0 to 10"),
        (
            "t10k-images-idx3-ubyte.gz",
            lambda b: b[:8] + (14).to_bytes(4, "big") + (56).to_bytes(4, "big") + b[16:],
            "not square",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            lambda b: b[:8] + (14).to_bytes(4, "big") * 2 + b[16 : 16 + 20 * 14 * 14],
            "training images of shape .1, 28, 28. but test images of shape .1, 14, 14.",
        ),
    ],
)
def test_files_that_contradict_each_other_are_refused(fashion_folder, name, change, message):
    folder = fashion_folder().path
    swapped(folder / name, change)
    with pytest.raises(DataError, match=message) as caught:
        read_folder(folder)
    assert str(caught.value).startswith(str(folder))


def test_the_packaged_subset_is_balanced():
    raw = read_subset()
    assert raw.train_images.shape == (10_000, 1, 28, 28)
    assert raw.test_images.shape == (2_000, 1, 28, 28)
    assert np.bincount(raw.train_labels).tolist() == [1000] * 10
    assert np.bincount(raw.test_labels).tolist() == [200] * 10
    images = np.concatenate([raw.train_images, raw.test_images]).reshape(12_000, -1)
    assert len(np.unique(images, axis=0)) > 11_990  # the origin itself repeats a few pictures


def test_the_notice_travels_with_the_subset():
    folder = files("mirrormask.study") / "datasets"
    notice = (folder / "NOTICE-fashion-mnist.txt").read_text(encoding="utf-8")
    assert "The MIT License" in notice
    assert "Zalando SE" in notice
    assert len((folder / SUBSET_FILE).read_bytes()) < 6_000_000


@pytest.mark.skipif(not PUBLIC.installed.is_dir(), reason="needs the whole Fashion-MNIST")
def test_the_script_rebuilds_the_packaged_subset():
    spec = importlib.util.spec_from_file_location("make_fashion_subset", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    rebuilt = script.subset(None)
    raw = read_subset()
    for name in ARRAYS:
        np.testing.assert_array_equal(np.squeeze(getattr(raw, name)), rebuilt[name])
    if "zlib-ng" not in getattr(zlib, "ZLIBNG_VERSION", "") + zlib.ZLIB_RUNTIME_VERSION:
        committed = (files("mirrormask.study") / "datasets" / SUBSET_FILE).read_bytes()
        assert script.archive(rebuilt) == committed
