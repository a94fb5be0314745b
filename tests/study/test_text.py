"""Text from Python's library: windows of it in order, labels one character later."""

from __future__ import annotations

import calendar
from pathlib import Path

import numpy as np
import pytest
import torch

from mirrormask.errors import DataError
from mirrormask.study import text
from mirrormask.study.data import load
from mirrormask.study.text import CHARACTERS, LENGTH, encode, read_stdlib_text


def decode(tokens) -> str:
    return "".join(CHARACTERS[i] for i in tokens)


def test_windows_follow_the_source_and_labels_are_one_ahead():
    raw = read_stdlib_text()
    assert raw.train_inputs.shape == raw.train_labels.shape == (4000, LENGTH)
    assert raw.test_inputs.shape == (800, LENGTH)
    whole = decode(raw.train_inputs.ravel())
    source = Path(calendar.__file__).read_text(encoding="utf-8")
    assert whole.startswith(source.expandtabs(8))
    assert np.array_equal(raw.train_inputs.ravel()[1:], raw.train_labels.ravel()[:-1])
    assert not set(text.TRAIN_MODULES) & set(text.TEST_MODULES)


def test_encoding_keeps_printable_ascii_and_evens_out_lines():
    assert decode(encode("a\r\nb\tc\rd é~")) == "a\nb       c\nd ~"
    assert encode(CHARACTERS).tolist() == list(range(96))


def test_it_loads_with_windows_held_out():
    data = load("stdlib-text", validation=0.1, seed=1)
    assert (data.kind, data.in_channels, data.image_size, data.num_classes) == ("text", 96, 64, 96)
    assert data.train.images.shape == (3600, 64)
    assert data.train.images.dtype == torch.int64
    held_out = torch.cat([data.train.images, data.validation.images]).tolist()
    assert sorted(held_out) == sorted(read_stdlib_text().train_inputs.tolist())
    other = load("stdlib-text", validation=0.1, seed=2)
    assert not torch.equal(other.validation.images, data.validation.images)
    assert torch.equal(other.test.images, data.test.images)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (("sys",), "without the source of its module 'sys'"),
        (("bisect",), "too few for 4000 windows"),
    ],
)
def test_a_python_without_enough_source_is_refused(monkeypatch, modules, message):
    monkeypatch.setattr(text, "TRAIN_MODULES", modules)
    with pytest.raises(DataError, match=message):
        read_stdlib_text()
