"""One task of a comparison: data, a network, and how it is trained."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from mirrormask.errors import ArgumentError
from mirrormask.methods.record import Knob
from mirrormask.names import unknown_name
from mirrormask.study.models import check_fit
from mirrormask.study.schedule import Schedule, Shape

OptimizerName = Literal["sgd", "adamw"]


@dataclass(frozen=True, kw_only=True)
class RateRange:
    """Peak learning rates to try, on a logarithmic scale.

    Args:
        default: Of the first trial.
        low: Lower end.
        high: Upper end.

    Raises:
        ArgumentError: Unless 0 < low <= default <= high and low < high.
    """

    default: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.default <= self.high < math.inf or self.low == self.high:
            raise ArgumentError(
                f"The learning rates default={self.default}, low={self.low}, high={self.high} are "
                "no range: use 0 < low <= default <= high with low < high."
            )

    def knob(self) -> Knob:
        """Return the range as a knob of every method."""
        return Knob(name="lr", default=self.default, low=self.low, high=self.high)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Data, a network and its training, the same for all methods.

    Args:
        name: What tables and keys call it.
        data: Name of a data set.
        model: Name of a model.
        data_root: Folder or file of a data set that is not packaged.
        epochs: Passes over the training data.
        batch_size: Examples in a step.
        optimizer: ``"sgd"`` or ``"adamw"``.
        lr: Peak learning rates to try.
        adam_lr: The same for methods that their papers step with Adam, where ``optimizer`` is SGD.
        momentum: Of SGD.
        weight_decay: L2 of the optimizer; a method whose pressure takes its place goes without.
        augment: Whether the data set's own augmentation is applied.
        schedule: ``"cosine"`` or ``"step"``, see :class:`mirrormask.study.schedule.Schedule`.
        warmup_epochs: Of a linear rise of the learning rate; a tenth of a run if None.
        drops: Finished fractions of a run at which the schedule "step" lowers the rate.
        drop_factor: What each drop multiplies the rate by.
        label_smoothing: Share of each label that is spread over all classes, in [0, 1).
        images: Training images that are used, evenly from all classes; all if None.

    Raises:
        ArgumentError: If a value is outside its domain.
    """

    name: str
    data: str
    model: str
    data_root: str | None = None
    epochs: int = 10
    batch_size: int = 128
    optimizer: OptimizerName = "sgd"
    lr: RateRange = field(default_factory=lambda: RateRange(default=0.05, low=0.01, high=0.25))
    adam_lr: RateRange = field(default_factory=lambda: RateRange(default=1e-3, low=3e-4, high=1e-2))
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: bool = True
    schedule: Shape = "cosine"
    warmup_epochs: float | None = None
    drops: tuple[float, ...] = (0.5, 0.75)
    drop_factor: float = 0.1
    label_smoothing: float = 0.0
    images: int | None = None

    def __post_init__(self) -> None:
        check_fit(self.model, self.data)
        if self.optimizer not in get_args(OptimizerName):
            raise ArgumentError(unknown_name("optimizer", self.optimizer, get_args(OptimizerName)))
        if not self.name or set(self.name) & set("/ "):
            raise ArgumentError(
                f"The problem's name={self.name!r} is no word: use one such as 'fashion-mlp'."
            )
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name}={getattr(self, name)} is too small: use at least 1.")
        if not 0 <= self.momentum < 1:
            raise ArgumentError(f"momentum={self.momentum} is outside [0, 1): try 0.9.")
        if not 0 <= self.weight_decay < math.inf:
            raise ArgumentError(f"weight_decay={self.weight_decay} is negative: use 0 or more.")
        if not 0 <= self.label_smoothing < 1:
            raise ArgumentError(
                f"label_smoothing={self.label_smoothing} is outside [0, 1): use 0 for none."
            )
        if self.warmup_epochs is not None and not 0 <= self.warmup_epochs < math.inf:
            raise ArgumentError(f"warmup_epochs={self.warmup_epochs} is negative: use 0 or more.")
        if self.images is not None and self.images < 1:
            raise ArgumentError(f"images={self.images} is too small: use at least 1.")
        self.rates(1)

    def rates(self, steps_per_epoch: int) -> Schedule:
        """Return the schedule of the learning rate.

        Raises:
            ArgumentError: If one of its entries is outside its domain.
        """
        warmup = self.warmup_epochs
        return Schedule(
            shape=self.schedule,
            rise=None if warmup is None else round(warmup * steps_per_epoch),
            drops=self.drops,
            drop_factor=self.drop_factor,
        )

    def identity(self) -> dict[str, Any]:
        """Return all that decides a result: everything but the place of the data.

        Options that later versions add are named only where they differ from their defaults, so
        that studies of earlier versions can go on.
        """
        defaults = asdict(Problem(name=self.name, data=self.data, model=self.model))
        return {
            key: value
            for key, value in asdict(self).items()
            if key in _FIRST_OPTIONS or (key != "data_root" and value != defaults[key])
        }


_FIRST_OPTIONS = frozenset(
    [
        "name",
        "data",
        "model",
        "epochs",
        "batch_size",
        "optimizer",
        "lr",
        "adam_lr",
        "momentum",
        "weight_decay",
        "augment",
    ]
)
