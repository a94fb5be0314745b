"""The settings of the main job: everything that decides its result, in one plain record."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import mirrormask as mm
from mirrormask.errors import ArgumentError, CheckpointError
from mirrormask.methods import method as find_method
from mirrormask.study.data import DEFAULT
from mirrormask.study.models import check_fit


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What ``mirrormask train`` does.

    Args:
        data: Name of a data set.
        data_root: Folder or file of a data set that is not packaged.
        model: Name of a model.
        method: Name of a sparse method; its dense twin is trained beside it.
        sparsity: Fraction of zeros asked for, in [0, 1).
        epochs: Passes over the training images, for each of the two.
        lr: Peak learning rate of both.
        momentum: Of SGD.
        weight_decay: L2 of SGD, also on sparse weights where the method keeps it, as pilot does.
        batch_size: Images in a step.
        validation: Share of the training images held out.
        seed: Of the initial weights and of the order of the images.
        threads: CPU threads; the same number gives the same bytes.

    Raises:
        ArgumentError: If a value is outside its domain.
    """

    data: str = DEFAULT
    data_root: str | None = None
    model: str = "cnn"
    method: str = "pilot"
    sparsity: float = 0.95
    epochs: int = 25
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 128
    validation: float = 0.1
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        check_fit(self.model, self.data)
        find_method(self.method)
        if not 0 <= self.sparsity < 1:
            raise ArgumentError(
                f"sparsity={self.sparsity} is no fraction of zeros: use a number in [0, 1), such "
                "as 0.95 for 95 %."
            )
        for name in ("epochs", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name}={getattr(self, name)} is too small: use at least 1.")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ArgumentError(f"lr={self.lr} is no learning rate: use a positive number.")
        if not 0 <= self.momentum < 1:
            raise ArgumentError(f"momentum={self.momentum} is outside [0, 1): try 0.9.")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ArgumentError(f"weight_decay={self.weight_decay} is negative: use 0 or more.")
        if not 0 <= self.validation < 1:
            raise ArgumentError(f"validation={self.validation} is no share: use 0 <= share < 1.")
        if self.seed < 0:
            raise ArgumentError(f"seed={self.seed} is negative: use 0 or more.")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TrainSettings:
        """Return the settings that a run's config holds.

        Raises:
            CheckpointError: If it has entries of another version of the program.
            ArgumentError: If a value is outside its domain.
        """
        unknown = config.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise CheckpointError(
                f"The run has a setting {min(unknown)!r} that this version does not know: resume "
                "it with the version of mirrormask that began it."
            )
        return cls(**config)

    @property
    def name(self) -> str:
        """Return a short name for a folder."""
        percent = f"{100 * self.sparsity:g}".replace(".", "_")
        return f"{self.data}-{self.model}-{self.method}-{percent}-seed{self.seed}"

    def to_config(self) -> dict[str, Any]:
        """Return the settings and the version as plain values."""
        return asdict(self) | {"mirrormask": mm.__version__}
