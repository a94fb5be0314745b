"""No damaged or hostile file may crash, hang, take much memory or give a wrong weight."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mirrormask.deploy import load
from mirrormask.errors import DataError

MUTANTS = 10_000


NUMBERS = [
    "0",
    "-1",
    "1",
    "4294967296",
    "9223372036854775807",
    "1" * 40,
    "1e300",
    "true",
    "[]",
    "2",
]


def mutate(raw, rng):
    """Damage a file in one of the ways in which files get damaged or forged."""
    data = bytearray(raw)
    header = 8 + int.from_bytes(raw[:8], "little")
    kind = rng.integers(9)
    place = int(rng.integers(header if rng.random() < 0.5 else len(data)))
    if kind == 0:
        return bytes(data[: rng.integers(len(data))])
    if kind == 1:
        for _ in range(int(rng.integers(1, 9))):
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        data[place] ^= 1 << int(rng.integers(8))
    elif kind == 3:
        data[place : place + int(rng.integers(1, 40))] = rng.bytes(int(rng.integers(1, 40)))
    elif kind == 4:
        data[place:place] = rng.bytes(int(rng.integers(1, 40)))
    elif kind == 5:
        del data[place : place + int(rng.integers(1, 40))]
    elif kind == 6:
        data[:8] = (
            rng.bytes(8) if rng.random() < 0.5 else int(rng.integers(1 << 20)).to_bytes(8, "little")
        )
    elif kind == 7:
        # Two places swapped: right bytes, wrong order.
        other, size = int(rng.integers(len(data))), int(rng.integers(1, 60))
        data[place : place + size], data[other : other + size] = (
            data[other : other + size],
            data[place : place + size],
        )
    else:
        data = replace_number(data, header, rng)
    return bytes(data)


def replace_number(data, header, rng):
    text = bytes(data[8:header])
    spots = list(re.finditer(rb"\d+", text))
    spot = spots[int(rng.integers(len(spots)))]
    new = NUMBERS[int(rng.integers(len(NUMBERS)))].encode()
    text = text[: spot.start()] + new + text[spot.end() :]
    return len(text).to_bytes(8, "little") + text + bytes(data[header:])


@pytest.mark.usefixtures("little_memory")
def test_ten_thousand_damaged_files_load_right_or_end_in_one_error(
    mutants, originals, try_load, same_bits
):
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(MUTANTS):
        raw, expected = originals[number % 2]
        found = try_load(mutants / "mutant", mutate(raw, rng))
        if found is None:
            refused += 1
        else:
            assert list(found) == list(expected)
            wrong = [name for name in found if not same_bits(found[name], expected[name])]
            assert not wrong, f"mutant {number} gave wrong weights"
    assert refused > 0.9 * MUTANTS


def test_every_truncation_is_refused(mutants, originals, try_load):
    raw, _ = originals[0]
    for size in [*range(0, len(raw) - 1, 37), len(raw) - 1]:
        assert try_load(mutants / "short", raw[:size]) is None


def test_every_flipped_byte_of_the_data_is_noticed(mutants, originals, try_load):
    raw, _ = originals[0]
    header = 8 + int.from_bytes(raw[:8], "little")
    for place in range(header, len(raw), 11):
        flipped = raw[:place] + bytes([raw[place] ^ 0x10]) + raw[place + 1 :]
        assert try_load(mutants / "flipped", flipped) is None


def test_other_kinds_of_file_are_refused(tmp_path, try_load):
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("data.pkl", b"x" * 100)
    torch_file = tmp_path / "model.pt"
    torch.save({"a": torch.ones(3)}, torch_file)

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    deep = b"[" * 200_000
    kinds = [
        archive.read_bytes(),
        torch_file.read_bytes(),
        pickle.dumps(Trap()),
        b"",
        b"\0" * 8,
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{}",
        len(deep).to_bytes(8, "little") + deep,
        (2**63).to_bytes(8, "little") + b"{}",
        b"\x7fELF" + b"\1" * 500,
        b'{"version": 1}',
    ]
    for raw in kinds:
        assert try_load(tmp_path / "other", raw) is None
    assert not (tmp_path / "executed").exists()


def test_a_pipe_or_a_device_does_not_hang(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(DataError, match=r"regular file|cannot be read"):
            load(path)
