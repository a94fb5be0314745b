"""CIFAR-10 (JPEG): decoding against Pillow itself, the cache, and damage of every kind."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirrormask.errors import DataError, MirrormaskWarning
from mirrormask.study.cifar import read_cifar10_jpeg

Archive = dict[str, np.ndarray]


def jpeg(seed: int, size: int = 32, mode: str = "RGB") -> bytes:
    """A smooth random picture: noise of 4x4 blown up, so that JPEG changes it little."""
    small = np.random.RandomState(seed).randint(0, 256, (4, 4, 3)).astype(np.uint8)
    stream = BytesIO()
    picture = Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)
    picture.convert(mode).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def archive(train: list[bytes], test: list[bytes]) -> Archive:
    arrays: Archive = {"classes": np.array(["cat", "dog", "frog"])}
    for part, pictures in (("train", train), ("test", test)):
        arrays[f"{part}_jpeg"] = np.frombuffer(b"".join(pictures), np.uint8)
        arrays[f"{part}_offsets"] = np.cumsum([0] + [len(p) for p in pictures])
        arrays[f"{part}_labels"] = (np.arange(len(pictures)) % 3).astype(np.uint8)
    return arrays


@pytest.fixture
def small() -> Archive:
    return archive([jpeg(i) for i in range(6)], [jpeg(i) for i in range(6, 9)])


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Archive], Path]:
    def save(arrays: Archive) -> Path:
        path = tmp_path / "data" / "cifar10_jpeg.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez(path, **arrays)
        return path

    return save


def test_decoded_pixels_are_pillow_s(small, saved, tmp_path):
    raw = read_cifar10_jpeg(saved(small), tmp_path / "cache")
    for i in range(6):
        with Image.open(BytesIO(jpeg(i))) as picture:
            for x, y in ((0, 0), (31, 0), (5, 17)):
                assert tuple(raw.train_images[i, :, y, x].tolist()) == picture.getpixel((x, y))
    assert raw.test_images.shape == (3, 3, 32, 32)
    assert raw.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert raw.classes == ("cat", "dog", "frog")


def test_a_grey_jpeg_becomes_three_equal_channels(saved, tmp_path):
    arrays = archive([jpeg(0, mode="L")], [jpeg(1)])
    image = read_cifar10_jpeg(saved(arrays), tmp_path / "cache").train_images[0]
    assert (image[0] == image[1]).all()
    assert (image[0] == image[2]).all()


def test_folder_file_and_variable_name_the_same_archive(small, saved, tmp_path, monkeypatch):
    path = saved(small)
    monkeypatch.setenv("MIRRORMASK_DATA", str(path.parent))
    images = [
        read_cifar10_jpeg(root, tmp_path / "cache").train_images
        for root in (path, path.parent, None)
    ]
    assert images[0].tobytes() == images[1].tobytes() == images[2].tobytes()


def test_without_a_place_both_ways_out_are_named(monkeypatch, tmp_path):
    monkeypatch.delenv("MIRRORMASK_DATA", raising=False)
    with pytest.raises(DataError, match=r"root= .* MIRRORMASK_DATA"):
        read_cifar10_jpeg(None, tmp_path)
    with pytest.raises(DataError, match=r"absent does not exist; .*MIRRORMASK_DATA"):
        read_cifar10_jpeg(tmp_path / "absent", tmp_path)
    with pytest.raises(DataError, match=r"cifar10_jpeg.npz does not exist"):
        read_cifar10_jpeg(tmp_path, tmp_path)


def test_the_cache_is_used_and_belongs_to_one_archive(small, saved, tmp_path):
    cache = tmp_path / "cache"
    path = saved(small)
    read_cifar10_jpeg(path, cache)
    (kept,) = cache.iterdir()
    with np.load(kept) as content:
        arrays = dict(content)
    marked = {**arrays, "train_images": np.full_like(arrays["train_images"], 7)}
    np.savez(kept, **marked)
    assert (read_cifar10_jpeg(path, cache).train_images == 7).all()  # it really is the cache
    saved({**small, "test_labels": np.array([2, 2, 2])})
    assert not (read_cifar10_jpeg(path, cache).train_images == 7).all()
    np.savez(kept, **{**marked, "source_sha256": np.str_("0" * 64)})
    saved(small)
    assert not (read_cifar10_jpeg(path, cache).train_images == 7).all()


@pytest.mark.parametrize("place", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_cache_is_rebuilt(small, saved, tmp_path, place, damage):
    cache = tmp_path / "cache"
    path = saved(small)
    first = read_cifar10_jpeg(path, cache)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    content = bytearray(whole)
    i = int(place * len(content))
    if damage == "cut":
        del content[i:]
    else:
        content[i] ^= 0xFF
    kept.write_bytes(content)
    again = read_cifar10_jpeg(path, cache)
    np.testing.assert_array_equal(again.train_images, first.train_images)
    np.testing.assert_array_equal(again.test_images, first.test_images)
    assert [f.name for f in cache.iterdir()] == [kept.name]
    if damage == "cut":
        assert kept.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_a_warning_only(small, saved, tmp_path):
    (tmp_path / "blocked").write_bytes(b"a file where a folder should be")
    with pytest.warns(MirrormaskWarning, match="not kept"):
        raw = read_cifar10_jpeg(saved(small), tmp_path / "blocked")
    assert len(raw.train_images) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("train_offsets"), "no array 'train_offsets'"),
        (lambda a: a.pop("classes"), "no array 'classes'"),
        (lambda a: a.update(train_jpeg=a["train_jpeg"][:-1]), "offsets that do not fit"),
        (lambda a: a.update(train_offsets=a["train_offsets"][::-1]), "offsets that do not fit"),
        (lambda a: a.update(train_offsets=a["train_offsets"] + 1), "offsets that do not fit"),
        (lambda a: a["train_offsets"].__setitem__(0, 1), "offsets that do not fit"),
        (lambda a: a.update(train_offsets=a["train_offsets"][:1]), "bytes and their offsets"),
        (lambda a: a.update(train_offsets=a["train_offsets"] * 1.0), "bytes and their offsets"),
        (lambda a: a.update(train_labels=a["train_labels"][:-1]), "6 training images but 5 labels"),
        (lambda a: a.update(test_labels=a["test_labels"] + 1), "test labels 1 to 3"),
        (lambda a: a.update(test_labels=a["test_labels"] * 1.0), "not a list of integers"),
        (lambda a: a.update(test_jpeg=a["test_jpeg"] * 0), "image 0 that cannot be decoded"),
    ],
)
def test_an_archive_that_contradicts_itself_is_refused(small, saved, tmp_path, change, message):
    change(small)
    path = saved(small)
    with pytest.raises(DataError, match=message) as caught:
        read_cifar10_jpeg(path, tmp_path / "cache")
    assert str(caught.value).startswith(str(path))


def test_a_picture_cut_short_or_of_another_size_is_refused(saved, tmp_path):
    whole = jpeg(1)
    for picture, message in (
        (whole[: len(whole) // 2], "image 1 that cannot be decoded"),
        (jpeg(1, size=16), r"image 1 of \(16, 16\) pixels among images of \(32, 32\)"),
    ):
        path = saved(archive([jpeg(0), picture], [jpeg(2)]))
        with pytest.raises(DataError, match=message):
            read_cifar10_jpeg(path, tmp_path / "cache")


def test_a_truncated_archive_is_refused(small, saved, tmp_path):
    path = saved(small)
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"cifar10_jpeg.npz is truncated"):
            read_cifar10_jpeg(path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
