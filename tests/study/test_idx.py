"""IDX files come back exactly; every kind of damage ends in one sentence that names the file."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mirrormask.errors import DataError
from mirrormask.study.idx import parse_idx, read_idx

SOME = Path("some-file")


def written(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@settings(derandomize=True, deadline=None)
@given(array=arrays(np.uint8, array_shapes(max_dims=4, max_side=6)))
def test_round_trip_against_independently_written_bytes(array):
    read = parse_idx(written(array), SOME, ndim=array.ndim)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_plain_and_gzipped_files_are_told_apart_by_content(tmp_path, pack):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "any-name"
    path.write_bytes(pack(written(array)))
    np.testing.assert_array_equal(read_idx(path, ndim=3), array)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(data=st.data(), zipped=st.booleans())
def test_every_truncation_is_noticed(tmp_path_factory, data, zipped):
    content = written(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
    content = gzip.compress(content, mtime=0) if zipped else content
    length = data.draw(st.integers(0, len(content) - 1))
    path = tmp_path_factory.mktemp("cut") / "images-idx3-ubyte"
    path.write_bytes(content[:length])
    with pytest.raises(DataError, match="images-idx3-ubyte"):
        read_idx(path, ndim=3)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(data=st.data())
def test_a_changed_byte_in_a_gzip_file_never_changes_the_array(tmp_path_factory, data):
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    content = bytearray(gzip.compress(written(array), mtime=0))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("flip") / "images"
    path.write_bytes(content)
    try:
        read = read_idx(path, ndim=3)
    except DataError as error:
        assert str(path) in str(error)
    else:  # header fields such as the time stamp carry no data
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack(">BBBBI", 0, 0, 8, 1, 2) + b"abc", "announces 2 values .* holds 3"),
        (struct.pack(">BBBBI", 0, 0, 8, 1, 3) + b"ab", "announces 3 values .* holds 2"),
        (struct.pack(">BBBBI", 0, 0, 8, 1, 2**32 - 1) + b"ab", "announces 4294967295 values"),
        (struct.pack(">BBBBI", 0, 0, 8, 1, 0), "empty array"),
        (struct.pack(">BBBBI", 0, 0, 9, 1, 1) + b"a", "starts with 00000901"),
        (struct.pack(">BBBBI", 0, 1, 8, 1, 1) + b"a", "starts with 00010801"),
        (struct.pack(">BBBBII", 0, 0, 8, 2, 1, 1) + b"a", "starts with 00000802"),
        (b"\x89PNG\r\n\x1a\n0000", "starts with 89504e47"),
        (b"", "truncated: 0 bytes"),
    ],
)
def test_what_is_not_the_announced_array_is_refused(content, message):
    with pytest.raises(DataError, match=message) as caught:
        parse_idx(content, SOME, ndim=1)
    assert str(caught.value).startswith("some-file")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(DataError, match=f"{path} cannot be read"):
            read_idx(path, ndim=1)
