"""Sequences that contradict themselves are refused with what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from mirrormask.errors import DataError
from mirrormask.study.sequences import Sequences

SIGNALS, LABELS = np.zeros((2, 1, 8), np.float32), np.array([0, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_inputs": SIGNALS[:0]}, "no training sequences"),
        ({"test_labels": LABELS[:1]}, "labels of shape"),
        ({"train_labels": LABELS + 1}, "outside its 2 classes"),
        ({"test_labels": LABELS - 1}, "outside its 2 classes"),
        ({"test_inputs": SIGNALS[:, :, 1:]}, "belong together"),
        ({"train_inputs": np.array([[0, 9], [0, 0]])}, "training labels or tokens outside"),
    ],
)
def test_contradictions_are_named(change, message):
    good = {
        "source": "here",
        "train_inputs": SIGNALS,
        "train_labels": LABELS,
        "test_inputs": SIGNALS,
        "test_labels": LABELS,
        "classes": ("a", "b"),
    }
    Sequences(**good)
    with pytest.raises(DataError, match=message):
        Sequences(**good | change)
