"""MNIST-1D is the published set, and generating it leaves no trace."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
import torch

from mirrormask.errors import ArgumentError, MissingExtraError
from mirrormask.study.data import load
from mirrormask.study.mnist1d import read_mnist1d


@pytest.fixture(scope="module")
def raw():
    return read_mnist1d()


def test_it_has_the_published_form(raw):
    assert raw.train_inputs.shape == (4000, 1, 40)
    assert raw.test_inputs.shape == (1000, 1, 40)
    assert raw.train_inputs.dtype == np.float32
    labels = np.concatenate([raw.train_labels, raw.test_labels])
    assert np.bincount(labels).tolist() == [500] * 10
    both = np.concatenate([raw.train_inputs, raw.test_inputs]).astype(np.float64)
    assert both.mean() == pytest.approx(0, abs=1e-6)
    assert both.std() == pytest.approx(1, abs=1e-6)


def test_it_is_the_same_each_time_and_leaves_the_global_states_alone(raw):
    random.seed(5), np.random.seed(5)
    again = read_mnist1d()
    draws = random.random(), np.random.rand()
    random.seed(5), np.random.seed(5)
    assert draws == (random.random(), np.random.rand())
    assert np.array_equal(again.train_inputs, raw.train_inputs)
    assert np.array_equal(again.test_labels, raw.test_labels)


def test_it_loads_with_a_validation_part_by_class(raw):
    data = load("mnist1d", validation=0.1, seed=3)
    assert (data.kind, data.in_channels, data.image_size) == ("signals", 1, 40)
    assert data.train.images.shape == (3600, 1, 40)
    counts = torch.bincount(torch.from_numpy(raw.train_labels)) / 10
    assert (torch.bincount(data.validation.labels) - counts).abs().max() < 1
    rows = {
        row.tobytes(): int(y) for row, y in zip(raw.train_inputs, raw.train_labels, strict=True)
    }
    parts = [*zip(*data.train, strict=True), *zip(*data.validation, strict=True)]
    assert all(rows.pop(x.numpy().tobytes()) == int(y) for x, y in parts)
    assert not rows
    assert np.array_equal(data.test.images.numpy(), raw.test_inputs)


def test_a_missing_package_and_a_root_are_refused(monkeypatch, tmp_path):
    with pytest.raises(ArgumentError, match="not read from a folder"):
        load("mnist1d", root=tmp_path)
    monkeypatch.setitem(sys.modules, "mnist1d.data", None)
    with pytest.raises(MissingExtraError, match=r'pip install "mirrormask\[study\]"'):
        load("mnist1d")
