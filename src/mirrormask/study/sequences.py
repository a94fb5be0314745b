"""Signals and texts as they are read: arrays and labels, checked, before any part is held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirrormask.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class Sequences:
    """A data set of sequences that come in their final form: nothing is left to normalise.

    Attributes:
        source: What was read, for error messages.
        train_inputs: float32 signals [n, c, length] or int64 tokens [n, length].
        train_labels: int64 array [n], or [n, length] with one label for each token.
        test_inputs: The same for testing, of the same c and length.
        test_labels: Likewise.
        classes: Name of each class; labels, and tokens where there are any, are indices into it.

    Raises:
        DataError: Counts, shapes or labels contradict each other.

    Example:
        >>> signals, labels = np.zeros((2, 1, 40), np.float32), np.array([0, 1])
        >>> Sequences(source="example", train_inputs=signals, train_labels=labels,
        ...           test_inputs=signals, test_labels=labels, classes=("a", "b")).classes
        ('a', 'b')
    """

    source: str
    train_inputs: NDArray[Any]
    train_labels: NDArray[np.int64]
    test_inputs: NDArray[Any]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for part, inputs, labels in (
            ("training", self.train_inputs, self.train_labels),
            ("test", self.test_inputs, self.test_labels),
        ):
            if len(inputs) == 0:
                raise DataError(f"{self.source} holds no {part} sequences; check what was read.")
            if labels.shape not in (inputs.shape[:1], inputs.shape):
                raise DataError(
                    f"{self.source} holds {part} sequences of shape {inputs.shape} but labels of "
                    f"shape {labels.shape}; give one label a sequence or one a token."
                )
            indices = [labels] if inputs.ndim == 3 else [labels, inputs]
            if any(i.min() < 0 or i.max() >= len(self.classes) for i in indices):
                raise DataError(
                    f"{self.source} has {part} labels or tokens outside its {len(self.classes)} "
                    "classes; check that it is the right data."
                )
        if self.train_inputs.shape[1:] != self.test_inputs.shape[1:]:
            raise DataError(
                f"{self.source} holds training sequences of shape {self.train_inputs.shape[1:]} "
                f"but test sequences of shape {self.test_inputs.shape[1:]}; check that they belong "
                "together."
            )
