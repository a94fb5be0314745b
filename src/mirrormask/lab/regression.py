"""Descent on under-determined regression, vectorised over seeds and settings.

All seeds and all settings of a study move in one tensor of shape (seeds, features, runs), so that
a step costs one batched matrix product. The loss is ``1/2 ||Z x - Y||²``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from mirrormask.errors import ArgumentError
from mirrormask.geometry import Factors
from mirrormask.lab.problems import Problems
from mirrormask.lab.schedules import Array, Schedule, step_strengths

Method = Literal["factors", "subgradient", "ista", "fista", "mask-l1"]
Start = Literal["balanced", "spred", "equal"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One setting: a method, its start and its strength over time.

    ``alpha`` is the decay of the factors. The rivals take ``2 * alpha`` as the weight of their L1
    penalty, which is what decay ``alpha`` of the factors amounts to.

    Args:
        name: Label in figures and tables.
        schedule: The strength alpha over time.
        method: ``"factors"`` (x = m * w with decay), ``"subgradient"`` (descent on the loss plus
            L1), ``"ista"`` and ``"fista"`` (proximal), ``"mask-l1"`` (x = m * w, L1 on m alone).
        start: Of the factors: ``"balanced"``, ``"spred"`` (beta = 0) or ``"equal"`` (m = w).
        beta: Balance of the start, where it is balanced.
    """

    name: str
    schedule: Schedule
    method: Method = "factors"
    start: Start = "balanced"
    beta: float = 1.0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method) or self.start not in get_args(Start):
            raise ArgumentError(
                f"method={self.method!r}, start={self.start!r} is unknown: use one of "
                f"{get_args(Method)} and one of {get_args(Start)}."
            )
        if self.start == "balanced" and not self.beta > 0:
            raise ArgumentError(f"beta={self.beta} is no balanced start: use a number > 0.")


@dataclass(frozen=True)
class Trace:
    """What :func:`descend` saw.

    Attributes:
        steps: When it was recorded, shape (T,).
        error: ``||x - truth||₂``, shape (T, seeds, runs).
        loss: ``1/2 ||Z x - Y||²``, shape (T, seeds, runs).
        x: Weights at the end, shape (seeds, runs, features).
        names: Label of each run.
    """

    steps: Array
    error: Array
    loss: Array
    x: Array
    names: tuple[str, ...]

    def final(self, name: str) -> Array:
        """Return the error at the end of the run called ``name``, shape (seeds,)."""
        return self.error[-1, :, self.names.index(name)]


def split_start(x0: Tensor, run: Run) -> dict[str, Tensor]:
    """Return the factors at the start of ``run``, shape of ``x0``.

    Example:
        >>> from mirrormask.lab.schedules import Constant
        >>> run = Run(name="frozen", schedule=Constant(strength=0.0), start="equal")
        >>> split_start(torch.tensor([-0.25]), run)["m"]
        tensor([0.5000])
    """
    if run.start == "equal":
        root = x0.abs().sqrt()
        return {"m": root, "w": root.clone()}
    return Factors(beta=0.0 if run.start == "spred" else run.beta).split(x0)


def _soft(x: Tensor, amount: Tensor) -> Tensor:
    return x - x.clamp(min=-amount, max=amount)


GradientOf = Callable[[Tensor], Tensor]


def _move_factors(
    x0: Tensor, runs: Sequence[Run], strengths: Tensor, lr: float, gradient: GradientOf
) -> Iterator[Tensor]:
    """Yield x after each step of the factors, decayed together or on the mask alone."""
    geometry = Factors()
    starts = [split_start(x0, run) for run in runs]
    latents = {name: torch.stack([s[name] for s in starts], dim=-1) for name in ("m", "w")}
    x = geometry.compose(latents)
    both = torch.tensor([float(run.method == "factors") for run in runs], dtype=x.dtype)
    mask_only = bool((both == 0).any())
    # Weight decay 2 * alpha of both factors, as the base optimizer applies it.
    keeps = 1.0 - 2.0 * lr * strengths * both
    for alpha, keep in zip(strengths, keeps, strict=True):
        pulled = geometry.pull_back(latents, gradient(x))
        if mask_only:
            pulled["m"].add_(latents["m"].sign().mul_(2.0 * alpha * (1.0 - both)))
        for name, factor in latents.items():
            factor.mul_(keep).sub_(pulled[name], alpha=lr)
        yield geometry.compose(latents, out=x)


def _move_subgradient(
    x0: Tensor, runs: Sequence[Run], strengths: Tensor, lr: float, gradient: GradientOf
) -> Iterator[Tensor]:
    x = x0.unsqueeze(-1).repeat(1, 1, len(runs))
    for alpha in strengths:
        x = x - lr * (gradient(x) + 2.0 * alpha * x.sign())
        yield x


def _move_proximal(
    x0: Tensor, runs: Sequence[Run], strengths: Tensor, lr: float, gradient: GradientOf
) -> Iterator[Tensor]:
    """Yield x after each step of ISTA, or of FISTA for the runs that ask for it."""
    x = x0.unsqueeze(-1).repeat(1, 1, len(runs))
    ahead = x
    fast = torch.tensor([float(run.method == "fista") for run in runs], dtype=x.dtype)
    pace = 1.0
    for alpha in strengths:
        moved = _soft(ahead - lr * gradient(ahead), 2.0 * lr * alpha)
        next_pace = 0.5 * (1.0 + (1.0 + 4.0 * pace**2) ** 0.5)
        ahead = moved + fast * ((pace - 1.0) / next_pace) * (moved - x)
        x, pace = moved, next_pace
        yield x


MOVERS = {
    "factors": _move_factors,
    "mask-l1": _move_factors,
    "subgradient": _move_subgradient,
    "ista": _move_proximal,
    "fista": _move_proximal,
}


class _Loss:
    """The gradient of the loss, whole or of a random batch of the samples."""

    def __init__(self, problems: Problems, batch: int | None, seed: int) -> None:
        self.z = torch.from_numpy(problems.z)
        self.y = torch.from_numpy(problems.y).unsqueeze(-1)
        self.batch = batch
        self.rng = torch.Generator().manual_seed(seed)
        self.gram = self.z.mT @ self.z
        self.target = self.z.mT @ self.y

    def gradient(self, x: Tensor) -> Tensor:
        if self.batch is None:
            return torch.baddbmm(self.target, self.gram, x, beta=-1.0)
        samples = self.z.shape[1]
        rows = torch.randint(samples, (self.z.shape[0], self.batch), generator=self.rng)
        seeds = torch.arange(self.z.shape[0]).unsqueeze(-1)
        z = self.z[seeds, rows]
        return (z.mT @ (z @ x - self.y[seeds, rows])).mul_(samples / self.batch)

    def value(self, x: Tensor) -> Tensor:
        return 0.5 * (self.z @ x - self.y).square().sum(dim=1)


def descend(
    problems: Problems,
    runs: Sequence[Run],
    *,
    steps: int,
    lr: float = 1e-4,
    batch: int | None = None,
    records: int = 100,
    seed: int = 0,
    on_record: Callable[[], object] | None = None,
) -> Trace:
    """Run every setting on every problem at once.

    Args:
        problems: The problems, one a seed.
        runs: The settings; names must differ.
        steps: Number of steps, at least 1.
        lr: Step size; the time that a step takes.
        batch: Samples per step, drawn with replacement; None for the whole gradient.
        records: How often to record, spread evenly, the start and the end included.
        seed: Seed of the batches.
        on_record: Called at each record of each method, for a progress bar.

    Returns:
        Error and loss over time, and the weights at the end.

    Raises:
        ArgumentError: If there is no run, names repeat, or ``batch`` or ``records`` is below 1.

    Example:
        >>> from mirrormask.lab.problems import sparse_problems
        >>> from mirrormask.lab.schedules import Constant
        >>> runs = [Run(name="none", schedule=Constant(strength=0.0))]
        >>> trace = descend(sparse_problems(seeds=2), runs, steps=200)
        >>> trace.error.shape, bool((trace.loss[-1] < trace.loss[0]).all())
        ((101, 2, 1), True)
    """
    names = tuple(run.name for run in runs)
    if not runs or len(set(names)) < len(names):
        raise ArgumentError(f"runs={names} cannot be told apart: give one or more, names distinct.")
    if records < 1 or (batch is not None and batch < 1):
        raise ArgumentError(f"records={records}, batch={batch}: use positive numbers.")
    due = np.unique(np.linspace(0, steps, records + 1).round().astype(int))
    truth = torch.from_numpy(problems.truth).unsqueeze(-1)
    x0 = torch.from_numpy(problems.x0)
    error = np.empty((len(due), problems.seeds, len(runs)))
    loss, last = np.empty_like(error), np.empty((problems.seeds, len(runs), x0.shape[1]))
    for mover in dict.fromkeys(MOVERS[run.method] for run in runs):
        chosen = [i for i, run in enumerate(runs) if MOVERS[run.method] is mover]
        some = [runs[i] for i in chosen]
        strengths = np.stack([step_strengths(run.schedule, steps, lr) for run in some], axis=1)
        problem = _Loss(problems, batch, seed)
        first = torch.stack([_first(x0, run) for run in some], dim=-1)
        path = mover(x0, some, torch.from_numpy(strengths), lr, problem.gradient)
        at = {int(step): row for row, step in enumerate(due)}
        for step, x in enumerate(_with_start(first, path)):
            if (row := at.get(step)) is not None:
                error[row][:, chosen] = (x - truth).norm(dim=1).numpy()
                loss[row][:, chosen] = problem.value(x).numpy()
                if on_record is not None:
                    on_record()
        last[:, chosen] = x.mT.numpy()
    return Trace(due.astype(np.float64), error, loss, last, names)


def _first(x0: Tensor, run: Run) -> Tensor:
    return Factors().compose(split_start(x0, run)) if MOVERS[run.method] is _move_factors else x0


def _with_start(first: Tensor, path: Iterator[Tensor]) -> Iterator[Tensor]:
    yield first
    yield from path
