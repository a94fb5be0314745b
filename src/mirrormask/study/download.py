"""Fetch a file of known checksum into the cache, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import IO

from mirrormask.errors import DataError, OutputError

CACHE_VARIABLE = "MIRRORMASK_CACHE"
_CHUNK = 1 << 20


def cache_folder(cache: Path | str | None = None) -> Path:
    """Say where downloaded and decoded data is kept.

    The argument wins, then the environment variable MIRRORMASK_CACHE, then ~/.cache/mirrormask.
    Nothing is created.

    Example:
        >>> cache_folder("elsewhere").name
        'elsewhere'
    """
    if cache is not None:
        return Path(cache).expanduser()
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "mirrormask"


@contextmanager
def atomic_writer(path: Path) -> Iterator[IO[bytes]]:
    """Open ``path`` for writing so that it appears whole when the block ends, or not at all.

    Raises:
        OutputError: The folder cannot be created or written.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "new" / "file"
        >>> with atomic_writer(target) as stream:
        ...     _ = stream.write(b"whole")
        >>> target.read_bytes()
        b'whole'
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own for every writer: two processes may fetch the same file at once.
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as stream:
            temporary = Path(stream.name)
            yield stream.file
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        temporary = None
    except (DataError, OutputError):
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write {path} ({error.strerror or error}); set {CACHE_VARIABLE} or pass "
            "cache= to name a folder that can be written."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def fetch(url: str, path: Path, *, md5: str, timeout: float = 60.0) -> Path:
    """Make sure that ``path`` holds the file of the given checksum, downloading it if need be.

    A file already there is used only when its checksum is right; otherwise it is fetched again.

    Args:
        url: Where the file comes from.
        path: Where it goes; its folder is created.
        md5: Checksum in hexadecimal, as the origin publishes it. It guards against damage, not
            against an attacker: that is what https is for.
        timeout: Seconds without an answer after which to give up.

    Returns:
        ``path``.

    Raises:
        DataError: The origin cannot be reached, the transfer breaks off, or the checksum is wrong.
        OutputError: The folder cannot be written.

    Example:
        >>> import tempfile
        >>> source = Path(tempfile.mkdtemp()) / "source"
        >>> _ = source.write_bytes(b"hello")
        >>> md5 = "5d41402abc4b2a76b9719d911017c592"
        >>> fetch(source.as_uri(), source.with_name("copy"), md5=md5).read_bytes()
        b'hello'
    """
    if path.is_file() and _md5_of(path) == md5:
        return path
    digest = hashlib.md5(usedforsecurity=False)
    with atomic_writer(path) as target:
        for chunk in _download(url, path, timeout):
            digest.update(chunk)
            target.write(chunk)
        if digest.hexdigest() != md5:
            raise DataError(
                f"{url} has MD5 {digest.hexdigest()} instead of {md5}; try again, or put the right "
                f"file at {path} by hand."
            )
    return path


def _download(url: str, path: Path, timeout: float) -> Iterator[bytes]:
    received = 0
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            announced = answer.headers.get("Content-Length")
            while chunk := answer.read(_CHUNK):
                received += len(chunk)
                yield chunk
    except (HTTPException, OSError, ValueError) as error:
        # URLError and a timeout are OSErrors; ValueError is a malformed URL.
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{url} cannot be downloaded ({reason}); try again when the network is up, or put "
            f"the file at {path} by hand."
        ) from error
    if announced is not None and received != int(announced):
        # A connection closed early ends read(amount) quietly: only the count shows it.
        raise DataError(
            f"{url} broke off after {received} of {announced} bytes; try again, or put the file at "
            f"{path} by hand."
        )


def _md5_of(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(
                stream, lambda: hashlib.md5(usedforsecurity=False)
            ).hexdigest()
    except OSError:
        return "unreadable"
