"""A download ends with the right file or with no file, over real HTTP connections."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mirrormask.errors import DataError, OutputError
from mirrormask.study.download import atomic_writer, cache_folder, fetch

CONTENT = bytes(range(256)) * 5000
MD5 = hashlib.md5(CONTENT).hexdigest()


def names(folder: Path) -> list[str]:
    """Every name in a folder, hidden leftovers included."""
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_is_fetched_once(server, tmp_path):
    server.files["data"] = CONTENT
    path = tmp_path / "deep" / "data"
    for _ in range(2):
        assert fetch(f"{server.url}/data", path, md5=MD5).read_bytes() == CONTENT
    assert server.requests == ["data"]
    assert names(path.parent) == ["data"]


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], CONTENT[:-1] + b"?", CONTENT + b"?"])
def test_a_damaged_file_is_fetched_again(server, tmp_path, damage):
    server.files["data"] = CONTENT
    path = tmp_path / "data"
    path.write_bytes(damage)
    assert fetch(f"{server.url}/data", path, md5=MD5).read_bytes() == CONTENT


@pytest.mark.parametrize("received", [0, 1, 1 << 20, len(CONTENT) - 1])
def test_a_truncated_download_leaves_nothing(server, tmp_path, received):
    server.files["data"] = CONTENT
    server.cut["data"] = received
    with pytest.raises(DataError, match=f"/data .*after {received} of {len(CONTENT)} bytes"):
        fetch(f"{server.url}/data", tmp_path / "data", md5=MD5)
    assert names(tmp_path) == []


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    server.files["data"] = CONTENT + b"?"
    with pytest.raises(DataError, match=f"/data has MD5 .* instead of {MD5}; .* by hand"):
        fetch(f"{server.url}/data", tmp_path / "data", md5=MD5)
    assert names(tmp_path) == []


def test_a_failed_download_keeps_what_was_there(server, tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b"older")
    with pytest.raises(DataError):
        fetch(f"{server.url}/data", path, md5=MD5)
    assert path.read_bytes() == b"older"
    assert names(tmp_path) == ["data"]


@pytest.mark.parametrize(
    "url", ["{server}/absent", "http://127.0.0.1:9/x", "not a url", "file:///nowhere/x"]
)
def test_an_unreachable_origin_is_named(server, tmp_path, url):
    url = url.format(server=server.url)
    with pytest.raises(DataError) as caught:
        fetch(url, tmp_path / "data", md5=MD5, timeout=5)
    assert str(caught.value).startswith(f"{url} cannot be downloaded (")
    assert str(tmp_path / "data") in str(caught.value)
    assert names(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_named(server, tmp_path):
    server.files["data"] = CONTENT
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(OutputError, match=r"file/data .*MIRRORMASK_CACHE"):
        fetch(f"{server.url}/data", tmp_path / "file" / "data", md5=MD5)


def test_the_writer_leaves_nothing_when_its_block_fails(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"older")
    with pytest.raises(ZeroDivisionError), atomic_writer(path) as stream:
        stream.write(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"older"
    assert names(tmp_path) == ["file"]


def test_argument_then_variable_then_home_name_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MIRRORMASK_CACHE", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "mirrormask"
    monkeypatch.setenv("MIRRORMASK_CACHE", "~/elsewhere")
    assert cache_folder() == tmp_path / "elsewhere"
    assert cache_folder("here") == Path("here")
    assert not (tmp_path / ".cache").exists()
