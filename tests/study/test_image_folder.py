"""Folders of images become lists of paths and labels; folders that do not fit are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mirrormask.errors import ArgumentError, DataError
from mirrormask.study.image_folder import first_images, load_image_folder

NAMES = ("n01440764", "n02084071", "n10565667")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write empty files where images would be; listing never opens them."""
    for part, each in (("train", 8), ("val", 2)):
        for name in NAMES:
            place = tmp_path / part / name
            place.mkdir(parents=True)
            for i in range(each):
                (place / f"{name}_{i}{('.JPEG', '.png', '.jpg')[i % 3]}").touch()
            (place / "notes.txt").touch()
    return tmp_path


def test_classes_and_files_are_listed_in_order(folder):
    data = load_image_folder(folder, validation=0)
    assert data.classes == NAMES
    assert (data.in_channels, data.image_size, data.num_classes) == (3, 224, 3)
    assert (len(data.train), len(data.test)) == (24, 6)
    assert data.train.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert [p.parent.name for p in data.test.paths] == [n for n in NAMES for _ in range(2)]
    assert list(data.train.paths) == sorted(data.train.paths)
    assert {p.suffix for p in data.train.paths} == {".JPEG", ".png", ".jpg"}


def test_a_part_is_held_out_by_class_and_by_seed(folder):
    data = load_image_folder(str(folder), validation=0.25, seed=3)
    assert torch.bincount(data.validation.labels).tolist() == [2, 2, 2]
    whole = load_image_folder(folder, validation=0)
    assert sorted((*data.train.paths, *data.validation.paths)) == sorted(whole.train.paths)
    labels = dict(zip(whole.train.paths, whole.train.labels.tolist(), strict=True))
    for part in (data.train, data.validation):
        assert [labels[path] for path in part.paths] == part.labels.tolist()
    other = load_image_folder(folder, validation=0.25, seed=4)
    assert other.validation.paths != data.validation.paths
    assert other.test.paths == data.test.paths


def test_a_few_images_are_even_over_classes(folder):
    data = load_image_folder(folder, validation=0)
    few = first_images(data, 6)
    assert torch.bincount(few.train.labels).tolist() == [2, 2, 2]
    assert set(few.train.paths) < set(data.train.paths)
    assert few.test is data.test
    assert len(first_images(data, 1000).train) == 24


def test_the_test_part_may_be_called_test(folder):
    (folder / "val").rename(folder / "test")
    assert len(load_image_folder(folder).test) == 6


def test_folders_that_do_not_fit_are_named(folder):
    with pytest.raises(DataError, match="no place was given"):
        load_image_folder(None)
    with pytest.raises(ArgumentError, match=r"validation=1\.0"):
        load_image_folder(folder, validation=1.0)
    with pytest.raises(DataError, match="has no folders 'train' and 'val'"):
        load_image_folder(folder / "train")
    (folder / "val" / NAMES[0]).rename(folder / "val" / "n99")
    with pytest.raises(DataError, match="folders of different names"):
        load_image_folder(folder)


def test_empty_and_too_few_classes_are_named(folder):
    for file in (folder / "train" / NAMES[1]).iterdir():
        file.unlink()
    with pytest.raises(DataError, match=f"{NAMES[1]} holds no image"):
        load_image_folder(folder)
    for part in ("train", "val"):
        for name in NAMES[1:]:
            (folder / part / name).rename(folder / f"{part}-{name}")
    with pytest.raises(DataError, match="holds 1 folders"):
        load_image_folder(folder)
