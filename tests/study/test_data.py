"""Named data sets arrive split, normalised and repeatable; wrong requests are named."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from mirrormask.errors import ArgumentError, DataError, MissingExtraError
from mirrormask.study.data import DATASETS, DEFAULT, load
from mirrormask.study.fashion import read_subset


def bytes_of(data) -> list[bytes]:
    return [
        t.numpy().tobytes() for split in (data.train, data.validation, data.test) for t in split
    ]


@pytest.fixture(scope="module")
def subset():
    return load()


def test_the_default_is_there_and_has_the_promised_form(subset):
    assert DEFAULT == "fashion-mnist-10k"
    for split, n in ((subset.train, 9000), (subset.validation, 1000), (subset.test, 2000)):
        assert split.images.shape == (n, 1, 28, 28)
        assert split.images.dtype == torch.float32
        assert split.labels.dtype == torch.int64
        assert torch.bincount(split.labels).tolist() == [n // 10] * 10
    assert (subset.in_channels, subset.image_size, subset.num_classes) == (1, 28, 10)
    assert subset.classes[9] == "Ankle boot"


def test_the_training_part_is_standardised_and_can_be_undone(subset):
    images = subset.train.images.double()
    assert abs(images.mean().item()) < 1e-6
    assert abs(images.std(correction=0).item() - 1) < 1e-6
    raw = read_subset()
    back = (subset.test.images.double() * subset.std[0] + subset.mean[0]) * 255
    np.testing.assert_allclose(back.numpy(), raw.test_images, atol=1e-3)


def test_the_same_seed_gives_the_same_bytes_whatever_the_global_state():
    torch.manual_seed(1), np.random.seed(1)
    first = bytes_of(load("digits", seed=3))
    torch.manual_seed(2), np.random.seed(2)
    assert bytes_of(load("digits", seed=3)) == first


def test_a_seed_changes_what_is_held_out_but_never_the_test_images():
    a, b = load("digits", seed=0, validation=0.2), load("digits", seed=1, validation=0.2)
    assert not torch.equal(a.validation.images, b.validation.images)
    assert torch.equal(a.test.labels, b.test.labels)

    def test_pixels(data):
        return torch.round((data.test.images * data.std[0] + data.mean[0]) * 16)

    assert torch.equal(test_pixels(a), test_pixels(b))


@pytest.mark.parametrize("share", [0.0, 0.05, 1 / 3, 0.9])
def test_the_parts_together_are_the_training_set(share, fashion_folder):
    folder = fashion_folder(per_class=13)
    data = load("fashion-mnist", root=folder.path, validation=share, seed=5)
    held_out = torch.bincount(data.validation.labels, minlength=10)
    assert len(data.validation.labels) == round(share * 130)
    assert int(held_out.max() - held_out.min()) <= 1  # equal classes get equal shares

    def rows(images):
        return sorted(map(tuple, images.round().long().flatten(1).tolist()))

    both = torch.cat([data.train.images, data.validation.images])
    pixels = (both.double() * data.std[0] + data.mean[0]) * 255
    assert rows(pixels) == rows(torch.from_numpy(folder.arrays["train_images"]).double())


def test_labels_stay_with_their_images(fashion_folder):
    folder = fashion_folder()
    data = load("fashion-mnist", root=str(folder.path))
    key = {
        image.tobytes(): int(label)
        for image, label in zip(
            folder.arrays["train_images"], folder.arrays["train_labels"], strict=True
        )
    }
    for split in (data.train, data.validation):
        pixels = ((split.images.double() * data.std[0] + data.mean[0]) * 255).round()
        for image, label in zip(pixels.to(torch.uint8).numpy(), split.labels, strict=True):
            assert key[image.tobytes()] == int(label)


def test_splits_unpack_and_no_validation_is_allowed():
    data = load("digits", validation=0)
    images, labels = data.train
    assert len(images) == len(labels) == 1437
    assert data.validation.images.shape == (0, 1, 8, 8)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("fashion-mnist10k", "did you mean 'fashion-mnist-10k'"),
        ("zzz", "is unknown: Known are"),
        ("", ":"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(name, hint):
    with pytest.raises(DataError) as caught:
        load(name)
    assert repr(name) in str(caught.value)
    assert hint in str(caught.value)
    assert all(known in str(caught.value) for known in DATASETS)


@pytest.mark.parametrize("share", [-0.1, 1.0, 2, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ArgumentError, match=f"validation={share}"):
        load(validation=share)


def test_a_share_that_leaves_nothing_and_a_negative_seed_are_refused(fashion_folder):
    root = fashion_folder().path
    with pytest.raises(ArgumentError, match=r"validation=0.999 leaves none of the 60"):
        load("fashion-mnist", root=root, validation=0.999)
    with pytest.raises(ArgumentError, match="seed"):
        load("fashion-mnist", root=root, seed=-1)


def test_a_root_for_a_packaged_set_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match=f"root='{tmp_path}' has no meaning for 'digits'"):
        load("digits", root=tmp_path)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("digits", "sklearn.datasets", "lab"), ("cifar10-jpeg", "PIL", "study")],
)
def test_a_missing_library_comes_with_its_install_line(monkeypatch, tmp_path, name, module, extra):
    if name == "cifar10-jpeg":
        arrays = {"classes": np.array(["a"])}
        for part in ("train", "test"):
            arrays[f"{part}_jpeg"] = np.zeros(1, np.uint8)
            arrays[f"{part}_offsets"] = np.array([0, 1])
            arrays[f"{part}_labels"] = np.array([0])
        np.savez(tmp_path / "cifar10_jpeg.npz", **arrays)
    monkeypatch.setitem(sys.modules, module, None)
    root = tmp_path if DATASETS[name].takes_root else None
    with pytest.raises(MissingExtraError) as caught:
        load(name, root=root, cache=tmp_path / "cache")
    assert f'pip install "mirrormask[{extra}]"' in str(caught.value)
