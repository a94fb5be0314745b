"""Pickles of plain data are read; anything that could run is refused before it does."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrormask.errors import DataError
from mirrormask.study.safe_pickle import read_plain_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

# Python 2's protocol 2: short strings (U), a list and an array as numpy 1 wrote it.
PYTHON2 = (
    b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\n"
    b"q\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x01K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87R"
    b"q\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x03\x01\x02\x03tbU\x06"
    b"labelsq\x08]q\tK\x07au."
)


class Runs:
    """Its pickle calls a function."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("kind", ["u1", "i8", "f4", "f8", "?"])
def test_arrays_of_numbers_come_back_in_the_protocols_of_such_files(protocol, kind):
    array = (np.arange(12) % 2).astype(kind).reshape(3, 4)
    back = read_plain_pickle(pickle.dumps({"data": array}, protocol), "here")
    assert back["data"].dtype == array.dtype
    assert np.array_equal(back["data"], array)


def test_the_format_of_python_2_is_read():
    back = read_plain_pickle(PYTHON2, "here")
    assert back[b"labels"] == [7]
    assert back[b"data"].tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "attack",
    [
        lambda path: Runs(Path.touch, path),
        lambda path: Runs(exec, f"open({str(path)!r}, 'w')"),
        lambda path: Runs(np.save, str(path), 1),
        lambda path: Runs(getattr, path, "name"),
        lambda path: {"data": [Runs(eval, f"open({str(path)!r}, 'w')")]},
    ],
)
def test_nothing_is_ever_run(tmp_path, protocol, attack):
    target = tmp_path / "touched"
    content = pickle.dumps(attack(target), protocol)
    with pytest.raises(DataError, match=r"here wants to load .*fetch the file from its authors"):
        read_plain_pickle(content, "here")
    assert not target.exists()


def test_arrays_of_objects_are_refused():
    content = pickle.dumps(np.array([{}, []], dtype=object), 2)
    with pytest.raises(DataError, match="not of numbers"):
        read_plain_pickle(content, "here")


@settings(derandomize=True, deadline=None)
@given(place=st.integers(0, len(PYTHON2) - 1), value=st.integers(0, 255))
def test_a_damaged_file_is_a_data_error_or_plain_data(place, value):
    content = PYTHON2[:place] + bytes([value]) + PYTHON2[place + 1 :]
    try:
        read_plain_pickle(content, "here")
    except DataError as error:
        assert "here" in str(error)


def test_a_cut_off_file_is_named():
    with pytest.raises(DataError, match="here is no readable pickle"):
        read_plain_pickle(PYTHON2[:-5], "here")
