"""Files whose checksums are right but whose tables lie, as an attacker would write them."""

from __future__ import annotations

import json
import re
import time
import zlib

import numpy as np
import pytest
import torch

from mirrormask.deploy import load
from mirrormask.deploy.manifest import CHECKSUM_KEY, MANIFEST_KEY
from mirrormask.errors import CheckpointError


def forge(raw, rng):
    """Change the table of tensors and make its checksum right again, as an attacker would."""
    header_size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + header_size])
    body = bytearray(raw[8 + header_size :])
    table = json.loads(header["__metadata__"][MANIFEST_KEY])
    names = list(table["tensors"])
    row = table["tensors"][names[int(rng.integers(len(names)))]]
    fields = list(row)
    for _ in range(int(rng.integers(1, 4))):
        field = fields[int(rng.integers(len(fields)))]
        choices = [
            0,
            1,
            -1,
            3,
            7,
            8,
            2**31,
            2**40,
            2**61,
            2**70,
            None,
            "x",
            [],
            [2**33, 2**30],
            1.5,
            [1000],
            [0, 2**50],
            [30, 100],
            "rice",
            "bitmask",
            "gaps8",
            "dense",
            "bool",
            "float64",
            "int8",
            "fp16",
            True,
            {},
            [1] * 70,
        ]
        row[field] = choices[int(rng.integers(len(choices)))]
    if rng.random() < 0.4 and body:
        body[int(rng.integers(len(body)))] = int(rng.integers(256))
    refresh_checksums(header, table, body)
    return pack_again(header, table, body)


def refresh_checksums(header, table, body):
    for name, row in table["tensors"].items():
        base = row.get("base", name)
        parts = (
            [base]
            if base in header
            else [f"{base}::{part}" for part in ("index", "values", "scale", "negative")]
        )
        if f"{base}::scale" in header and base in header:
            parts.append(f"{base}::scale")
        checksum = 0
        for part in parts:
            if part in header:
                begin, end = header[part]["data_offsets"]
                checksum = zlib.crc32(body[begin:end], checksum)
        if "crc32" in row and isinstance(row["crc32"], int) and row["crc32"] > 100:
            row["crc32"] = checksum


def pack_again(header, table, body):
    text = json.dumps(table)
    header["__metadata__"] = {MANIFEST_KEY: text, CHECKSUM_KEY: f"{zlib.crc32(text.encode()):08x}"}
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + bytes(body)


@pytest.mark.usefixtures("little_memory")
def test_forged_tables_with_right_checksums_never_do_harm(mutants, originals, try_load):
    rng = np.random.default_rng(1)
    loaded = 0
    for number in range(3000):
        found = try_load(mutants / "forged", forge(originals[number % 2][0], rng))
        loaded += found is not None
        for tensor in (found or {}).values():
            assert tensor.dtype != torch.bool or int(tensor.view(torch.uint8).max()) <= 1
    assert 0 < loaded < 2000


def test_a_future_version_says_so(tmp_path, originals):
    raw, _ = originals[0]
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    table = json.loads(header["__metadata__"][MANIFEST_KEY])
    table["version"] = 2
    path = tmp_path / "future"
    path.write_bytes(pack_again(header, table, raw[8 + size :]))
    with pytest.raises(CheckpointError, match="version 2, newer than 1"):
        load(path)


def test_duplicate_names_are_refused(tmp_path, originals, try_load):
    raw, _ = originals[0]
    size = int.from_bytes(raw[:8], "little")
    text = raw[8 : 8 + size].rstrip()
    first = re.search(rb'"counts":\{[^}]*\}', text)
    assert first is not None
    doubled = text[:-1] + b"," + first.group() + b"}"
    assert (
        try_load(
            tmp_path / "double", len(doubled).to_bytes(8, "little") + doubled + raw[8 + size :]
        )
        is None
    )


def test_a_small_file_cannot_ask_for_much_memory(tmp_path, originals):
    raw, _ = originals[0]
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    table = json.loads(header["__metadata__"][MANIFEST_KEY])
    for shape in ([2**20, 2**20], [2**40], [10**9], [0, 2**62], [2**31, 2**31]):
        table["tensors"]["rice"]["shape"] = shape
        path = tmp_path / "huge"
        path.write_bytes(pack_again(header, table, raw[8 + size :]))
        begin = time.process_time()
        with pytest.raises(CheckpointError, match="rice"):
            load(path)
        assert time.process_time() - begin < 0.2


def opened(raw):
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    return header, json.loads(header["__metadata__"][MANIFEST_KEY]), bytearray(raw[8 + size :])


def test_parts_that_overlap_are_refused(tmp_path, originals):
    header, table, body = opened(originals[0][0])
    header["scalar"]["data_offsets"] = [8, 12]
    refresh_checksums(header, table, body)
    path = tmp_path / "overlap"
    path.write_bytes(pack_again(header, table, body))
    with pytest.raises(CheckpointError, match="impossible place"):
        load(path)


def test_impossible_truth_values_are_refused(tmp_path, originals):
    header, table, body = opened(originals[0][0])
    body[header["flags::values"]["data_offsets"][0]] = 2
    refresh_checksums(header, table, body)
    path = tmp_path / "bools"
    path.write_bytes(pack_again(header, table, body))
    with pytest.raises(CheckpointError, match="truth values"):
        load(path)
