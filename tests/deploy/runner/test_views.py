"""Reshapes and transpositions as bookkeeping, against torch's strides."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.views import reshaped, shape_of, whole


def offsets(dims, steps):
    """Return where each element of a view lies, in the order of its dimensions."""
    found = torch.zeros(1, dtype=torch.int64)
    for dim in dims:
        for atom in dim:
            along = torch.arange(atom.size) * atom.step * steps[atom.axis]
            found = (found[:, None] + along).reshape(-1)
    return found


@given(st.data())
def test_random_reshapes_and_permutations_are_torch_s(data):
    sizes = data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4))
    tensor = torch.arange(math.prod(sizes)).reshape(sizes)
    steps = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    dims = tuple(whole(axis, size) for axis, size in enumerate(sizes))
    for _ in range(data.draw(st.integers(1, 4))):
        if data.draw(st.booleans()):
            order = data.draw(st.permutations(range(len(dims))))
            tensor, dims = tensor.permute(order), tuple(dims[axis] for axis in order)
            continue
        left, shape = tensor.numel(), []
        while left > 1:
            shape.append(
                data.draw(st.sampled_from([d for d in range(1, left + 1) if left % d == 0]))
            )
            left //= shape[-1]
            if len(shape) > 5:
                shape.append(left)
                break
        try:
            dims = reshaped(dims, tuple(shape))
        except UnsupportedError:
            break
        tensor = tensor.reshape(shape)
    assert shape_of(dims) == tuple(tensor.shape)
    assert torch.equal(offsets(dims, steps), tensor.reshape(-1))


def test_a_cut_through_an_atom_is_refused():
    with pytest.raises(UnsupportedError, match=r"\[4, 9\] to \[6, 6\]"):
        reshaped((whole(0, 4), whole(1, 9)), (6, 6))
