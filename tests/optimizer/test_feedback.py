"""A measurement arrives whole, one interval later, and survives copies."""

from __future__ import annotations

import copy
import pickle

import torch

from mirrormask.optimizer.feedback import Feedback


def test_nothing_sent_is_nothing_received() -> None:
    assert Feedback().receive() is None


def test_the_last_measurement_counts() -> None:
    feedback = Feedback()
    feedback.send(torch.tensor([1.0]))
    feedback.send(torch.tensor([0.1, 0.2], dtype=torch.float64))
    assert feedback.receive() == [0.1, 0.2]
    assert feedback.receive() == [0.1, 0.2]


def test_what_was_sent_does_not_change_with_its_tensor() -> None:
    feedback = Feedback()
    measured = torch.tensor([1.0, 2.0])
    feedback.send(measured.clone())
    measured.zero_()
    assert feedback.receive() == [1.0, 2.0]


def test_copies_and_restored_ones_are_equal_to_the_bit() -> None:
    feedback = Feedback()
    feedback.send(torch.tensor([0.1, 1 / 3], dtype=torch.float64))
    received = feedback.receive()
    restored = Feedback()
    restored.restore(received)
    for other in (copy.deepcopy(feedback), pickle.loads(pickle.dumps(feedback)), restored):
        assert other.receive() == received
    restored.restore(None)
    assert restored.receive() is None
