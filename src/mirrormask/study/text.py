"""Text for a character language model: source code of Python's own library, always there."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from mirrormask.errors import DataError
from mirrormask.study.sequences import Sequences

CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
"""What a text may consist of: the newline and printable ASCII, 96 characters."""

LENGTH = 64
"""Characters that a model sees at once."""

TRAIN_WINDOWS, TEST_WINDOWS = 4000, 800

# Old modules, whose text hardly changes from one release of Python to the next. Those for testing
# are others, so that nothing of them was seen in training.
TRAIN_MODULES = (
    *("calendar", "cmd", "configparser", "copy", "csv", "difflib", "filecmp", "fractions"),
    *("getopt", "gettext", "heapq", "pprint"),
)
TEST_MODULES = ("bisect", "colorsys", "fileinput", "shelve", "shlex", "textwrap", "timeit")


def read_stdlib_text() -> Sequences:
    """Read modules of Python's library as windows of 64 characters, with the next ones as labels.

    Windows follow each other without overlap. 4,000 are for training and 800, from other modules,
    for testing: 256,000 and 51,200 characters on every machine. The characters themselves are
    those of the running Python: results compare exactly only within one version of it.

    Raises:
        DataError: This Python comes without the source of its library.

    Example:
        >>> text = read_stdlib_text()
        >>> text.train_inputs.shape, int(text.test_labels.max()) < 96
        ((4000, 64), True)
    """
    train = _windows(TRAIN_MODULES, TRAIN_WINDOWS)
    test = _windows(TEST_MODULES, TEST_WINDOWS)
    return Sequences(
        source="Python's own library",
        train_inputs=train[0],
        train_labels=train[1],
        test_inputs=test[0],
        test_labels=test[1],
        classes=tuple(CHARACTERS),
    )


def encode(text: str) -> NDArray[np.int64]:
    """Return the place of each character in :data:`CHARACTERS`.

    Line ends of any kind become newlines and tabs eight spaces; what else is not printable ASCII
    is left out.

    Example:
        >>> "".join(CHARACTERS[i] for i in encode("é = 1"))
        ' = 1'
    """
    plain = "\n".join(text.splitlines()).expandtabs(8)
    places = {character: place for place, character in enumerate(CHARACTERS)}
    return np.array([places[c] for c in plain if c in places], dtype=np.int64)


def _windows(modules: tuple[str, ...], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    tokens = np.concatenate([encode(_source(module) + "\n") for module in modules])
    size = count * LENGTH
    if len(tokens) <= size:
        raise DataError(
            f"The modules {', '.join(modules)} of this Python hold {len(tokens)} characters, too "
            f"few for {count} windows of {LENGTH}; use another installation of Python."
        )
    return tokens[:size].reshape(count, LENGTH), tokens[1 : size + 1].reshape(count, LENGTH)


def _source(module: str) -> str:
    spec = find_spec(module)
    read = getattr(spec.loader if spec else None, "get_source", None)
    source = read(module) if read else None
    if not isinstance(source, str):
        raise DataError(
            f"This Python comes without the source of its module {module!r}; use an installation "
            "that has it."
        )
    return source
