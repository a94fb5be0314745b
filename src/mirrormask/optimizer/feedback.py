"""Measurements for a pressure that reacts, read one interval late so that no step waits."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mirrormask.pressure import TrainingSignal

if TYPE_CHECKING:
    from mirrormask.optimizer.core import SparseOptimizer
    from mirrormask.optimizer.latent_weight import LatentWeight

SAMPLE = 1 << 16
"""Weights, about, that a measurement looks at: their quantiles are good to a thousandth."""


def sampling_stride(weights: Collection[LatentWeight], size: int) -> int:
    """Return at which distance a sample of about this size takes its weights."""
    return 1 + sum(weight.parameter.numel() for weight in weights) // size


class Feedback:
    """One measurement on its way from the device to the host.

    :meth:`send` queues the copy behind the work of its step; :meth:`receive`, an interval later,
    waits only if the device has not got that far, so a run is the same however far ahead the host
    is.
    """

    def __init__(self) -> None:
        self._host: Tensor | None = None
        self._arrived: torch.cuda.Event | None = None

    def send(self, measured: Tensor) -> None:
        """Start the copy of a 1-d tensor; what was sent before is forgotten."""
        self._arrived = None
        if measured.device.type != "cuda":
            self._host = measured.to("cpu")
            return
        self._host = torch.empty(measured.shape, dtype=measured.dtype, pin_memory=True)
        self._host.copy_(measured, non_blocking=True)
        self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._arrived.record(torch.cuda.current_stream(measured.device))

    def receive(self) -> list[float] | None:
        """Return what was sent last, or None if nothing was."""
        if self._arrived is not None:
            self._arrived.synchronize()
            self._arrived = None
        return None if self._host is None else self._host.tolist()

    def restore(self, measured: list[float] | None) -> None:
        """Take what :meth:`receive` returned in another run."""
        self._arrived = None
        self._host = None if measured is None else torch.tensor(measured, dtype=torch.float64)

    def __getstate__(self) -> dict[str, Any]:
        """Return plain numbers: an event belongs to its process."""
        return {"measured": self.receive()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`__getstate__` returned."""
        self.restore(state["measured"])


def measure(optimizer: SparseOptimizer) -> Tensor | None:
    """Let the pressure react to the last measurement, and return the next one if it is time."""
    pressure = optimizer.recipe.pressure
    clock = optimizer.clock()
    if not pressure.measures_at(clock):
        return None
    measured = optimizer.feedback.receive()
    if measured is not None:
        optimizer.pressure_state = pressure.react(optimizer.pressure_state, measured, clock)
    geometry, weights = optimizer.recipe.geometry, optimizer.weights.values()
    stride = sampling_stride(weights, SAMPLE)
    distances = []
    for weight in weights:
        latents = weight.sample(stride)
        proximal = pressure.application == "proximal"
        far = geometry.distance(latents) if proximal else geometry.compose(latents).abs()
        distances.append(weight.wrap_sample(far, stride))
    return pressure.measure(distances, optimizer.sparsity)


def report(optimizer: SparseOptimizer, train_accuracy: float) -> None:
    """Tell the pressure the training accuracy of an epoch, the mean of what all ranks say."""
    home = next(iter(optimizer.weights.values())).device
    train_accuracy = optimizer.ranks.mean_of(train_accuracy, home)
    first, length = optimizer.phase()
    done = optimizer.steps_done - first
    if first > 0 and done == 0:
        return  # an epoch of the phase before, and the pressure has started again
    signal = TrainingSignal(accuracy=train_accuracy, l1=float(optimizer.l1()), step=done)
    pressure = optimizer.recipe.pressure
    optimizer.pressure_state = pressure.observe(optimizer.pressure_state, signal, length)
