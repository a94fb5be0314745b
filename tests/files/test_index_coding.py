from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mirrormask.errors import CheckpointError
from mirrormask.files.index_coding import (
    MAX_RICE_BITS,
    decode_positions,
    encode_positions,
    index_choices,
)


def decoded(layout, code, length, count, bits):
    chunks = list(decode_positions(layout, code, length=length, count=count, rice_bits=bits))
    return np.concatenate(chunks) if chunks else np.empty(0, dtype=np.int64)


@st.composite
def positions(draw):
    length = draw(st.integers(1, 4000))
    kind = draw(st.sampled_from(["scattered", "clustered", "none", "all", "ends"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if kind == "none":
        return np.empty(0, dtype=np.int64), length
    if kind == "all":
        return np.arange(length), length
    if kind == "ends":
        return np.unique([0, length - 1]), length
    if kind == "clustered":
        start = int(rng.integers(length))
        return np.arange(start, min(length, start + int(rng.integers(1, 300)))), length
    return np.flatnonzero(rng.random(length) < draw(st.floats(0.0, 1.0))), length


@settings(max_examples=300)
@given(positions())
@example((np.array([255, 511, 767, 768]), 1024))
@example((np.array([254, 510]), 766))
def test_every_layout_gives_the_positions_back_at_the_announced_cost(case):
    where, length = case
    for choice in index_choices(where, length):
        code = encode_positions(where, length, choice)
        assert code.nbytes == choice.nbytes
        found = decoded(choice.layout, code, length, where.size, choice.rice_bits)
        assert np.array_equal(found, where)


def test_chunk_borders_and_long_gaps_survive():
    rng = np.random.default_rng(0)
    for length, share in ((3_000_000, 0.2), (3_000_000, 0.0001), (70_000_000, 1e-6)):
        where = np.unique(rng.integers(0, length, int(length * share)))
        for choice in index_choices(where, length):
            code = encode_positions(where, length, choice)
            found = decoded(choice.layout, code, length, where.size, choice.rice_bits)
            assert np.array_equal(found, where), choice


def test_rice_comes_within_three_percent_of_the_entropy_of_scattered_zeros():
    rng = np.random.default_rng(0)
    for density in (0.1, 0.05, 0.01, 0.002):
        where = np.flatnonzero(rng.random(2_000_000) < density)
        entropy = -density * np.log2(density) - (1 - density) * np.log2(1 - density)
        best = index_choices(where, 2_000_000)[0]
        assert best.layout == "rice"
        assert best.nbytes * 8 < 1.03 * entropy * 2_000_000


@settings(max_examples=500)
@given(
    st.sampled_from(["bitmask", "rice", "gaps8"]),
    st.binary(max_size=200),
    st.integers(1, 3000),
    st.integers(0, 300),
    st.integers(0, MAX_RICE_BITS + 3),
)
def test_any_bytes_give_increasing_positions_inside_or_one_error(layout, raw, length, count, bits):
    code = np.frombuffer(raw, dtype=np.uint8)
    try:
        found = decoded(layout, code, length, count, bits)
    except CheckpointError:
        return
    assert found.size == count
    assert count == 0 or (found[0] >= 0 and found[-1] < length)
    assert (np.diff(found) > 0).all()


def test_a_count_that_disagrees_is_refused():
    where = np.arange(0, 500, 7)
    for choice in index_choices(where, 500):
        code = encode_positions(where, 500, choice)
        for count in (where.size - 1, where.size + 1, where.size + 8):
            with pytest.raises(CheckpointError):
                decoded(choice.layout, code, 500, count, choice.rice_bits)


def test_positions_behind_the_end_are_refused():
    where = np.array([3, 700, 999])
    for choice in index_choices(where, 1000):
        code = encode_positions(where, 1000, choice)
        with pytest.raises(CheckpointError):
            decoded(choice.layout, code, 999, 3, choice.rice_bits)


def test_a_gap_that_would_wrap_round_is_refused():
    unary = np.zeros(2**24 + 1, dtype=np.bool_)
    unary[-1] = True
    # 2**24 << 40 is 2**64, which 64-bit arithmetic takes for 0.
    code = np.concatenate([np.zeros(40, np.uint8), np.packbits(unary, bitorder="little")])
    with pytest.raises(CheckpointError, match="behind the end"):
        decoded("rice", code, 100, 1, 40)
