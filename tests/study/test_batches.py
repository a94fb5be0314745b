"""Batches depend on seed and epoch alone, and hold every sample exactly once."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrormask.errors import ArgumentError
from mirrormask.study.augment import crop_and_flip
from mirrormask.study.batches import Batches


def numbered(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose pixels all carry the label, so that pairs can be checked."""
    labels = torch.arange(n)
    return labels.float()[:, None, None, None].expand(n, 1, 2, 2).contiguous(), labels


def epoch_of(batches: Batches, epoch: int) -> list[tuple[bytes, list[int]]]:
    batches.set_epoch(epoch)
    return [(images.numpy().tobytes(), labels.tolist()) for images, labels in batches]


@settings(derandomize=True, deadline=None)
@given(
    n=st.integers(1, 70),
    size=st.integers(1, 80),
    seed=st.integers(0, 2**63 - 1),
    epoch=st.integers(0, 1000),
    shuffle=st.booleans(),
)
def test_every_sample_comes_once_with_its_own_label(n, size, seed, epoch, shuffle):
    batches = Batches(*numbered(n), batch_size=size, seed=seed, shuffle=shuffle)
    batches.set_epoch(epoch)
    seen, sizes = [], []
    for images, labels in batches:
        assert (images == labels[:, None, None, None]).all()
        seen += labels.tolist()
        sizes.append(len(labels))
    assert sorted(seen) == list(range(n))
    assert shuffle or seen == list(range(n))
    assert len(sizes) == len(batches)
    assert all(s == size for s in sizes[:-1])


def test_a_run_cut_short_continues_with_the_same_batches():
    images, labels = torch.rand(50, 3, 32, 32), torch.arange(50)
    options = {"batch_size": 16, "seed": 4, "augment": crop_and_flip}
    through = Batches(images, labels, **options)
    expected = [epoch_of(through, epoch) for epoch in range(4)]
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    resumed = Batches(images, labels, **options)
    resumed.set_epoch(1)
    next(iter(resumed))  # killed in the middle of epoch 1
    assert [epoch_of(resumed, epoch) for epoch in (3, 1, 2)] == [expected[e] for e in (3, 1, 2)]


def test_epochs_and_seeds_differ_in_order_and_augmentation():
    images, labels = torch.rand(64, 3, 32, 32), torch.arange(64)
    plain = {
        (seed, epoch): epoch_of(Batches(images, labels, batch_size=8, seed=seed), epoch)
        for seed in range(3)
        for epoch in range(3)
    }
    assert len({str(order) for order in plain.values()}) == 9
    same = torch.rand(1, 3, 32, 32).expand(64, 3, 32, 32)
    drawn = Batches(same, labels, batch_size=8, augment=crop_and_flip)
    content = [images for epoch in (0, 1) for images, _ in epoch_of(drawn, epoch)]
    assert len(set(content)) == 16


def test_global_random_state_is_neither_read_nor_changed():
    batches = Batches(
        torch.rand(20, 3, 8, 8), torch.arange(20), batch_size=6, augment=crop_and_flip
    )
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    first = epoch_of(batches, 2)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(states[0], after[0])
    assert states[1:] == after[1:]
    torch.manual_seed(123), np.random.seed(123)
    assert epoch_of(batches, 2) == first


def test_an_iteration_keeps_the_epoch_it_began_with():
    batches = Batches(*numbered(30), batch_size=10, seed=1)
    expected = epoch_of(batches, 0)
    batches.set_epoch(0)
    running = iter(batches)
    got = [next(running)]
    batches.set_epoch(1)
    got += list(running)
    assert [(i.numpy().tobytes(), t.tolist()) for i, t in got] == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"seed": -1}, "seed=-1"),
        ({"labels": torch.arange(3)}, "4 images and 3 labels"),
        ({"images": torch.rand(0, 1), "labels": torch.rand(0)}, "0 images and 0 labels"),
    ],
)
def test_impossible_arguments_are_refused(change, message):
    with pytest.raises(ArgumentError, match=message):
        Batches(**{"images": torch.rand(4, 1), "labels": torch.arange(4), "batch_size": 2} | change)


def test_a_negative_epoch_is_refused():
    with pytest.raises(ArgumentError, match="epoch=-1"):
        Batches(*numbered(4), batch_size=2).set_epoch(-1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gets_the_same_batches():
    images, labels = torch.rand(50, 3, 32, 32), torch.arange(50)
    options = {"batch_size": 16, "seed": 4, "augment": crop_and_flip}
    here = Batches(images, labels, **options)
    there = Batches(images.cuda(), labels.cuda(), **options)
    for (a, b), (c, d) in zip(here, there, strict=True):
        assert c.is_cuda
        assert torch.equal(a, c.cpu())
        assert torch.equal(b, d.cpu())
