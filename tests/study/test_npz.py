"""A damaged archive gives the right arrays or a DataError, never wrong arrays or another error."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrormask.errors import DataError
from mirrormask.study.npz import read_arrays

ARRAY = np.random.RandomState(0).randint(0, 9, (20, 20)).astype(np.uint8)


def packed(save=np.savez_compressed, **arrays):
    stream = BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


@settings(derandomize=True, deadline=None, max_examples=200)
@given(data=st.data(), save=st.sampled_from([np.savez, np.savez_compressed]))
def test_every_truncation_is_noticed(data, save):
    content = packed(save, a=ARRAY)
    cut = content[: data.draw(st.integers(0, len(content) - 1))]
    with pytest.raises(DataError, match=r"x.npz .*; fetch it"):
        read_arrays(cut, "x.npz", ("a",), remedy="fetch it")


@settings(derandomize=True, deadline=None, max_examples=600)
@given(data=st.data(), save=st.sampled_from([np.savez, np.savez_compressed]))
def test_changed_bytes_never_give_other_values(data, save):
    content = bytearray(packed(save, a=ARRAY))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        (read,) = read_arrays(bytes(content), "x.npz", ("a",), remedy="fetch it")
    except DataError as error:
        assert str(error).startswith("x.npz")
    else:
        np.testing.assert_array_equal(read, ARRAY)


def test_a_missing_array_is_named():
    with pytest.raises(DataError, match=r"x.npz has no array 'b'; fetch it"):
        read_arrays(packed(a=ARRAY), "x.npz", ("a", "b"), remedy="fetch it")


def test_pickled_objects_are_refused():
    content = packed(a=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="allow_pickle"):
        read_arrays(content, "x.npz", ("a",), remedy="fetch it")
