"""CIFAR-10 and CIFAR-100 from the files that their authors hand out: pickled batches for Python."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirrormask.errors import DataError
from mirrormask.study.raw import RawImages
from mirrormask.study.safe_pickle import read_plain_pickle

TRAIN_10 = tuple(f"data_batch_{number}" for number in range(1, 6))
ARCHIVE_10, ARCHIVE_100 = "cifar-10-python.tar.gz", "cifar-100-python.tar.gz"
FOLDER_10, FOLDER_100 = "cifar-10-batches-py", "cifar-100-python"

_REMEDY = "fetch the archive again from the data set's authors"


def read_cifar10(root: Path | None) -> RawImages:
    """Read CIFAR-10: 50,000 training and 10,000 test images of 32x32, usually.

    Args:
        root: The archive ``cifar-10-python.tar.gz``, its unpacked folder ``cifar-10-batches-py``,
            or a folder with either. Parts of other sizes are read as they are.

    Raises:
        DataError: Files are missing, damaged, contradictory, or would run code.
    """
    return _read(root, ARCHIVE_10, FOLDER_10, TRAIN_10, "test_batch", "batches.meta", b"label")


def read_cifar100(root: Path | None) -> RawImages:
    """Read CIFAR-100 with its fine labels; see :func:`read_cifar10` for ``root``."""
    return _read(root, ARCHIVE_100, FOLDER_100, ("train",), "test", "meta", b"fine_label")


def _read(
    root: Path | None,
    archive: str,
    folder: str,
    train: tuple[str, ...],
    test: str,
    meta: str,
    label: bytes,
) -> RawImages:
    place = _locate(root, archive, folder, meta)
    get = _members(place, folder, (*train, test, meta))
    parts = [_batch(get(name), f"{place} ({name})", label) for name in train]
    test_images, test_labels = _batch(get(test), f"{place} ({test})", label)
    names = _mapping(get(meta), f"{place} ({meta})").get(label + b"_names")
    if not isinstance(names, list) or not all(isinstance(name, bytes | str) for name in names):
        raise DataError(f"{place} ({meta}) holds no names of classes; {_REMEDY}.")
    return RawImages(
        source=str(place),
        train_images=np.concatenate([images for images, _ in parts]),
        train_labels=np.concatenate([labels for _, labels in parts]),
        test_images=test_images,
        test_labels=test_labels,
        classes=tuple(n if isinstance(n, str) else n.decode("utf-8", "replace") for n in names),
    )


def _locate(root: Path | None, archive: str, folder: str, meta: str) -> Path:
    if root is None:
        raise DataError(f"no place was given for {archive}; pass root=, the file or its folder.")
    for place in (root, root / folder, root / archive):
        if place.is_file() or (place / meta).is_file():
            return place
    raise DataError(
        f"{root} is or holds neither {archive} nor {folder}; pass one of them as root=."
    )


def _members(place: Path, folder: str, names: tuple[str, ...]) -> Callable[[str], bytes]:
    if place.is_dir():
        return lambda name: _file(place / name)
    content: dict[str, bytes] = {}
    try:
        # Members are read in memory and by name; nothing is unpacked to the disk.
        with tarfile.open(place, "r:*") as tar:
            for member in tar:
                name = member.name.removeprefix("./").removeprefix(f"{folder}/")
                stream = tar.extractfile(member) if member.isfile() and name in names else None
                if stream is not None:
                    content[name] = stream.read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{place} is no readable archive ({error}); {_REMEDY}.") from error

    def get(name: str) -> bytes:
        if name not in content:
            raise DataError(f"{place} has no member {folder}/{name}; {_REMEDY}.")
        return content[name]

    return get


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); {_REMEDY}.") from error


def _mapping(content: bytes, source: str) -> dict[bytes, Any]:
    found = read_plain_pickle(content, source)
    if not isinstance(found, dict):
        raise DataError(f"{source} holds a {type(found).__name__}, not a mapping; {_REMEDY}.")
    # The authors' files were written by Python 2, whose texts are bytes.
    return {k.encode() if isinstance(k, str) else k: value for k, value in found.items()}


def _batch(
    content: bytes, source: str, label: bytes
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    found = _mapping(content, source)
    # CIFAR-10 has the key "labels", CIFAR-100 "fine_labels".
    pixels, labels = found.get(b"data"), found.get(label + b"s")
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2:
        raise DataError(f"{source} has no rows of bytes under 'data'; {_REMEDY}.")
    if pixels.shape[1] != 3 * 32 * 32:
        raise DataError(
            f"{source} has rows of {pixels.shape[1]} bytes, not of 3,072 = 3x32x32; {_REMEDY}."
        )
    if not isinstance(labels, list) or not all(type(value) is int for value in labels):
        raise DataError(f"{source} has no list of labels; {_REMEDY}.")
    return pixels.reshape(-1, 3, 32, 32), np.array(labels, dtype=np.int64)
