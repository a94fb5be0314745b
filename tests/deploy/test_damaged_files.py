"""No damaged or hostile file may crash, hang, take much memory or give a wrong weight."""

from __future__ import annotations

import json
import os
import pickle
import re
import resource
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from mirrormask.deploy import inspect, load, save
from mirrormask.deploy.manifest import CHECKSUM_KEY, MANIFEST_KEY
from mirrormask.errors import CheckpointError, DataError

MUTANTS = 10_000
EXTRA_MEMORY = 512 * 2**20


def small_state():
    generator = torch.Generator().manual_seed(1)

    def sparse(count, share):
        values = torch.randn(count, generator=generator)
        return values.masked_fill(torch.rand(count, generator=generator) < share, 0.0)

    even = torch.zeros(4000)
    even[::200] = 1.5
    signed = sparse(2000, 0.9)
    shared = sparse(3000, 0.5).reshape(30, 100)
    return {
        "rice": sparse(3000, 0.9).reshape(30, 100),
        "mask": shared,
        "again": shared,
        "gaps": even,
        "signed": torch.where(signed == 0, -0.0, signed),
        "flags": sparse(3000, 0.97) != 0,
        "counts": torch.arange(5),
        "scalar": torch.tensor(float("nan")),
        "wide": sparse(400, 0.9).to(torch.complex128),
        "empty": torch.empty(0, 7),
    }


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    found = []
    for values in ("exact", "int8"):
        path = folder / values
        save(small_state(), path, values=values)
        found.append((path.read_bytes(), load(path)))
    layouts = {row.layout for row in inspect(folder / "exact").rows}
    assert layouts == {"rice", "bitmask", "tied to mask", "gaps8", "dense"}
    return found


@pytest.fixture
def mutants(tmp_path):
    """A folder in memory where there is one: replacing a file on disk costs milliseconds."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def little_memory():
    """Let the process grow by no more than half a gigabyte: a huge allocation then fails."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + EXTRA_MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def bytes_of(tensor):
    flat = tensor.contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def equal(found, expected):
    return list(found) == list(expected) and all(
        found[name].dtype == tensor.dtype
        and found[name].shape == tensor.shape
        and bytes_of(found[name]) == bytes_of(tensor)
        for name, tensor in expected.items()
    )


def try_load(path, raw):
    """Return the loaded state, or None after one clear error within a second."""
    path.write_bytes(raw)
    begin = time.perf_counter()
    try:
        return load(path)
    except (CheckpointError, DataError) as error:
        assert str(path) in str(error)
        assert len(str(error)) < 600
        assert "\n" not in str(error)
        return None
    finally:
        assert time.perf_counter() - begin < 1.0


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
def test_ten_thousand_damaged_files_load_right_or_end_in_one_error(mutants, originals):
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(MUTANTS):
        raw, expected = originals[number % 2]
        found = try_load(mutants / "mutant", mutate(raw, rng))
        if found is None:
            refused += 1
        else:
            assert equal(found, expected), f"mutant {number} gave wrong weights"
    assert refused > 0.9 * MUTANTS


@pytest.mark.usefixtures("little_memory")
def test_forged_tables_with_right_checksums_never_do_harm(mutants, originals):
    rng = np.random.default_rng(1)
    loaded = 0
    for number in range(3000):
        found = try_load(mutants / "forged", forge(originals[number % 2][0], rng))
        loaded += found is not None
        for tensor in (found or {}).values():
            assert tensor.dtype != torch.bool or int(tensor.view(torch.uint8).max()) <= 1
    assert 0 < loaded < 2000


def test_every_truncation_is_refused(mutants, originals):
    raw, _ = originals[0]
    for size in [*range(0, len(raw) - 1, 37), len(raw) - 1]:
        assert try_load(mutants / "short", raw[:size]) is None


def test_every_flipped_byte_of_the_data_is_noticed(mutants, originals):
    raw, _ = originals[0]
    header = 8 + int.from_bytes(raw[:8], "little")
    for place in range(header, len(raw), 11):
        flipped = raw[:place] + bytes([raw[place] ^ 0x10]) + raw[place + 1 :]
        assert try_load(mutants / "flipped", flipped) is None


def test_other_kinds_of_file_are_refused(tmp_path):
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


def test_duplicate_names_are_refused(tmp_path, originals):
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


def test_a_pipe_or_a_device_does_not_hang(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(DataError, match=r"regular file|cannot be read"):
            load(path)


def test_a_small_file_cannot_ask_for_much_memory(tmp_path, originals):
    raw, _ = originals[0]
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    table = json.loads(header["__metadata__"][MANIFEST_KEY])
    for shape in ([2**20, 2**20], [2**40], [10**9], [0, 2**62], [2**31, 2**31]):
        table["tensors"]["rice"]["shape"] = shape
        path = tmp_path / "huge"
        path.write_bytes(pack_again(header, table, raw[8 + size :]))
        begin = time.perf_counter()
        with pytest.raises(CheckpointError, match="rice"):
            load(path)
        assert time.perf_counter() - begin < 0.2


def test_a_model_is_untouched_by_a_damaged_file(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(40, 40), torch.nn.Linear(40, 40))
    path = tmp_path / "a"
    save(model, path)
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)
    other = torch.nn.Sequential(torch.nn.Linear(40, 40), torch.nn.Linear(40, 40))
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(CheckpointError, match="checksum"):
        load(path, other)
    assert all(torch.equal(before[name], t) for name, t in other.state_dict().items())
