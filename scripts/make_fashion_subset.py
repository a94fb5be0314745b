"""Rebuild the packaged Fashion-MNIST subset from the whole set, byte for byte.

Usage: python scripts/make_fashion_subset.py [--root FOLDER] [--out FILE]

Takes 1,000 training and 200 test images of every class, chosen by a fixed seed and kept in the
order of the original files. The archive carries no time stamps. Its bytes depend on the zlib that
compresses them (zlib-ng packs differently); its arrays do not.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirrormask.errors import MirrormaskError
from mirrormask.study.download import atomic_writer, cache_folder
from mirrormask.study.fashion import ARRAYS, SUBSET_FILE, read_whole
from mirrormask.study.order import stratified

TRAIN_SIZE, TEST_SIZE, SEED = 10_000, 2_000, 0
TARGET = Path(__file__).parents[1] / "src/mirrormask/study/datasets" / SUBSET_FILE


def archive(arrays: dict[str, NDArray[np.uint8]]) -> bytes:
    """Pack arrays as an npz file without time stamps or platform marks."""
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name, array in arrays.items():
            member = BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, member.getvalue(), zipfile.ZIP_DEFLATED, zlib.Z_BEST_COMPRESSION)
    return stream.getvalue()


def subset(root: Path | None) -> dict[str, NDArray[np.uint8]]:
    """Choose the subset out of the whole set."""
    whole = read_whole(root, cache_folder())
    train = stratified(whole.train_labels, TRAIN_SIZE, SEED)
    test = stratified(whole.test_labels, TEST_SIZE, SEED)
    chosen = (
        whole.train_images[train, 0],
        whole.train_labels[train].astype(np.uint8),
        whole.test_images[test, 0],
        whole.test_labels[test].astype(np.uint8),
    )
    return dict(zip(ARRAYS, chosen, strict=True))


def main() -> int:
    """Write the subset and say where."""
    parser = argparse.ArgumentParser(description="Rebuild the packaged Fashion-MNIST subset.")
    parser.add_argument("--root", type=Path, help="folder with the four IDX files")
    parser.add_argument("--out", type=Path, default=TARGET, help="file to write")
    options = parser.parse_args()
    try:
        content = archive(subset(options.root))
        with atomic_writer(options.out) as stream:
            stream.write(content)
    except MirrormaskError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{options.out}: {len(content)} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
