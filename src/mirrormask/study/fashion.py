"""Fashion-MNIST: the packaged subset, and the whole set from wherever it is found.

Images by Zalando SE, MIT licence (Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747): 28x28 grey
pictures of clothes in ten classes, 60,000 for training and 10,000 for testing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

import numpy as np

from mirrormask.errors import DataError
from mirrormask.study.download import fetch
from mirrormask.study.idx import read_idx
from mirrormask.study.npz import read_arrays
from mirrormask.study.raw import RawImages

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SUBSET_FILE = "fashion-mnist-10k.npz"
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True, kw_only=True)
class FashionSource:
    """Where the whole set is looked for when no folder is named.

    Attributes:
        installed: Folder that a system package may have filled.
        origin: URL of the folder to download from.
        md5: Name and checksum of each file there.

    Example:
        >>> FashionSource(installed=Path("data"), origin="file:///mirror", md5={}).origin
        'file:///mirror'
    """

    installed: Path
    origin: str
    md5: Mapping[str, str]


PUBLIC = FashionSource(
    # Where the Debian package dataset-fashion-mnist installs the four files.
    installed=Path("/usr/share/datasets/fashion-mnist"),
    origin="https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    # As the origin's own README publishes them.
    md5=MappingProxyType(
        {
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        }
    ),
)


def read_subset() -> RawImages:
    """Read the 10,000 training and 2,000 test images that travel with the package.

    Raises:
        DataError: The installed file is damaged.

    Example:
        >>> read_subset().train_images.shape
        (10000, 1, 28, 28)
    """
    resource = files("mirrormask.study") / "datasets" / SUBSET_FILE
    try:
        content = resource.read_bytes()
    except OSError as error:
        raise DataError(
            f"the packaged file {SUBSET_FILE} cannot be read ({error}); reinstall mirrormask."
        ) from error
    train, train_labels, test, test_labels = read_arrays(
        content, f"the packaged file {SUBSET_FILE}", ARRAYS, remedy="reinstall mirrormask"
    )
    return RawImages(
        source=f"the packaged file {SUBSET_FILE}",
        train_images=train[:, None].astype(np.uint8, copy=False),
        train_labels=train_labels.astype(np.int64),
        test_images=test[:, None].astype(np.uint8, copy=False),
        test_labels=test_labels.astype(np.int64),
        classes=CLASSES,
    )


def read_whole(root: Path | None, cache: Path, *, source: FashionSource = PUBLIC) -> RawImages:
    """Read the whole set: from ``root``, else as installed, else downloaded once.

    Args:
        root: A folder that holds the four IDX files, gzipped or not, directly or under
            ``FashionMNIST/raw`` as torchvision lays them out. What is there is checked for its
            format, not for its checksum: a set of one's own in the same format is welcome.
        cache: The download goes into its folder ``fashion-mnist``; files that are there already
            are used if their checksums are right, and fetched again if not.
        source: Where to look when there is no ``root``.

    Raises:
        DataError: Files are missing, damaged, contradict each other, or cannot be downloaded.
        OutputError: The cache cannot be written.
    """
    if root is not None:
        return read_folder(root)
    if source.installed.is_dir():
        return read_folder(source.installed)
    folder = cache / "fashion-mnist"
    for name, checksum in source.md5.items():
        fetch(f"{source.origin}/{name}", folder / name, md5=checksum)
    return read_folder(folder)


def read_folder(folder: Path) -> RawImages:
    """Read the four IDX files of a folder.

    Raises:
        DataError: A file is missing, damaged, or contradicts another.
    """
    return RawImages(
        source=str(folder),
        train_images=read_idx(_find(folder, "train-images-idx3-ubyte"), ndim=3)[:, None],
        train_labels=read_idx(_find(folder, "train-labels-idx1-ubyte"), ndim=1).astype(np.int64),
        test_images=read_idx(_find(folder, "t10k-images-idx3-ubyte"), ndim=3)[:, None],
        test_labels=read_idx(_find(folder, "t10k-labels-idx1-ubyte"), ndim=1).astype(np.int64),
        classes=CLASSES,
    )


def _find(folder: Path, stem: str) -> Path:
    candidates = [
        place / name
        for place in (folder, folder / "FashionMNIST" / "raw")
        for name in (f"{stem}.gz", stem)
    ]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise DataError(
        f"{folder} holds neither {stem}.gz nor {stem}; name the folder of the four Fashion-MNIST "
        "files, or leave root out to have them downloaded."
    )
