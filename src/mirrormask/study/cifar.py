"""CIFAR-10 stored as JPEG files end to end in one npz archive: decode once, keep the pixels.

The images went through JPEG, so results on them are "CIFAR-10 (JPEG)", not CIFAR-10 (Krizhevsky
2009): 32x32 colour pictures in ten classes, 50,000 for training and 10,000 for testing.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirrormask.errors import DataError, MirrormaskWarning, MissingExtraError, OutputError
from mirrormask.study.download import atomic_writer
from mirrormask.study.npz import read_arrays
from mirrormask.study.raw import RawImages

DATA_VARIABLE = "MIRRORMASK_DATA"
FILE_NAME = "cifar10_jpeg.npz"
_REMEDY = "fetch the file again"
_PIXELS = ("train_images", "test_images")


def read_cifar10_jpeg(root: Path | None, cache: Path) -> RawImages:
    """Read CIFAR-10 (JPEG); decoded pixels are cached and bound to the archive's checksum.

    Args:
        root: The npz archive, or the folder that holds ``cifar10_jpeg.npz``; without it the
            environment variable MIRRORMASK_DATA names either. The archive holds, for ``train``
            and ``test``, ``_jpeg`` (bytes end to end), ``_offsets`` (n+1 places in them) and
            ``_labels``, and the names ``classes``.
        cache: Folder for the decoded pixels (about 185 MB). A cache that is damaged or belongs to
            another archive is rebuilt; one that cannot be written costs a warning and time only.

    Raises:
        DataError: The archive is missing, damaged or contradicts itself.
        MissingExtraError: Pillow is needed to decode and is not installed.
    """
    path = _locate(root)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}); check the path and its "
            "permissions."
        ) from error
    labels = _labels(content, str(path))
    digest = hashlib.sha256(content).hexdigest()
    cached = cache / f"cifar10-jpeg-{digest[:16]}.npz"
    pixels = _read_cache(cached, digest)
    if pixels is None:
        pixels = _decode_parts(content, str(path))
        _write_cache(cached, digest, pixels)
    return RawImages(
        source=str(path),
        train_images=pixels[0],
        train_labels=labels[0],
        test_images=pixels[1],
        test_labels=labels[1],
        classes=labels[2],
    )


def _locate(root: Path | None) -> Path:
    named = os.environ.get(DATA_VARIABLE)
    place = root if root is not None else Path(named).expanduser() if named else None
    if place is None:
        raise DataError(
            f"no place was given for {FILE_NAME}; pass root= (the file or its folder) or set the "
            f"environment variable {DATA_VARIABLE}."
        )
    path = place / FILE_NAME if place.is_dir() else place
    if not path.is_file():
        raise DataError(
            f"{path} does not exist; pass root= or set {DATA_VARIABLE} to {FILE_NAME} or its "
            "folder."
        )
    return path


def _labels(
    content: bytes, source: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    keys = ("train_labels", "test_labels", "classes")
    train, test, classes = read_arrays(content, source, keys, remedy=_REMEDY)
    for key, array in (("train_labels", train), ("test_labels", test)):
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            raise DataError(f"{source} has {key} that are not a list of integers; {_REMEDY}.")
    return (
        train.astype(np.int64),
        test.astype(np.int64),
        tuple(str(name) for name in classes.ravel()),
    )


def _decode_parts(content: bytes, source: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    keys = ("train_jpeg", "train_offsets", "test_jpeg", "test_offsets")
    train, train_offsets, test, test_offsets = read_arrays(content, source, keys, remedy=_REMEDY)
    return (
        decode_jpegs(train, train_offsets, f"{source} (train)"),
        decode_jpegs(test, test_offsets, f"{source} (test)"),
    )


def decode_jpegs(
    stream: NDArray[np.generic], offsets: NDArray[np.generic], source: str
) -> NDArray[np.uint8]:
    """Decode JPEG files that lie end to end.

    Args:
        stream: uint8 array of all bytes.
        offsets: Integer array [n+1]; image i is ``stream[offsets[i]:offsets[i+1]]``.
        source: Name for error messages.

    Returns:
        uint8 array [n, 3, h, w]; all images must have the same size.

    Raises:
        DataError: Offsets do not fit the bytes, or an image cannot be decoded or has another size.
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image  # noqa: PLC0415  (an extra: needed by this reader only)
    except ImportError as error:
        raise MissingExtraError(
            'decoding JPEG images needs Pillow: pip install "mirrormask[study]".'
        ) from error
    whole = stream.ndim == 1 and stream.dtype == np.uint8
    listed = offsets.ndim == 1 and np.issubdtype(offsets.dtype, np.integer) and len(offsets) > 1
    if not whole or not listed:
        raise DataError(f"{source} does not hold bytes and their offsets; {_REMEDY}.")
    ends = offsets.astype(np.int64)
    if ends[0] != 0 or ends[-1] != len(stream) or bool((np.diff(ends) <= 0).any()):
        raise DataError(f"{source} has offsets that do not fit its {len(stream)} bytes; {_REMEDY}.")
    data = stream.tobytes()
    images: NDArray[np.uint8] | None = None
    for i in range(len(ends) - 1):
        try:
            with Image.open(BytesIO(data[ends[i] : ends[i + 1]]), formats=("JPEG",)) as image:
                pixels = np.asarray(image.convert("RGB"))
        # Pillow reports a bad file as an OSError, a ValueError or, from its parsers, a SyntaxError.
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(
                f"{source} has an image {i} that cannot be decoded ({error}); {_REMEDY}."
            ) from error
        if images is None:
            images = np.empty((len(ends) - 1, 3, *pixels.shape[:2]), dtype=np.uint8)
        if pixels.shape[:2] != images.shape[2:]:
            raise DataError(
                f"{source} has an image {i} of {pixels.shape[:2]} pixels among images of "
                f"{images.shape[2:]}; {_REMEDY}."
            )
        images[i] = pixels.transpose(2, 0, 1)
    assert images is not None  # there is at least one: offsets has two entries or more
    return images


def _read_cache(path: Path, digest: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    try:
        train, test, source = read_arrays(
            path.read_bytes(), str(path), (*_PIXELS, "source_sha256"), remedy="it is rebuilt"
        )
    except OSError:  # absent, unreadable or damaged (a DataError): all mean "decode again"
        return None
    if str(source) != digest or train.dtype != np.uint8 or test.dtype != np.uint8:
        return None
    return train.astype(np.uint8, copy=False), test.astype(np.uint8, copy=False)


def _write_cache(
    path: Path, digest: str, pixels: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    try:
        with atomic_writer(path) as stream:
            np.savez(
                stream, train_images=pixels[0], test_images=pixels[1], source_sha256=np.str_(digest)
            )
    except OutputError as error:
        warnings.warn(f"decoded images are not kept: {error}", MirrormaskWarning, stacklevel=2)
