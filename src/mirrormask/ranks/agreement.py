"""The processes that train one model together: they say what they are about to do, and compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mirrormask.errors import RankError
from mirrormask.names import shorten

REFUSED = "refused"


class Ranks:
    """The ranks of one run; this process alone where ``torch.distributed`` does not run.

    Groups belong to their processes, so a copy in the same process shares it, and what is
    unpickled in another joins the default group there.

    Args:
        group: Those that train together; all by default.

    Example:
        >>> Ranks().size
        1
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group

    @property
    def size(self) -> int:
        """Number of processes."""
        return dist.get_world_size(self.group) if _running() else 1

    @property
    def rank(self) -> int:
        """Number of this one, from 0."""
        return dist.get_rank(self.group) if _running() else 0

    @property
    def members(self) -> list[int]:
        """Numbers of the processes in the default group."""
        # Torch before 2.9 does not take None for the group of all.
        group = self.group or dist.group.WORLD
        return dist.get_process_group_ranks(group) if _running() and group else [0]

    def gather(self, value: Any) -> list[Any]:
        """Return what each rank gives, in their order; any value that can be pickled."""
        if self.size == 1:
            return [value]
        answers: list[Any] = [None] * self.size
        dist.all_gather_object(answers, value, group=self.group)
        return answers

    def mean_of(self, number: float, device: torch.device) -> float:
        """Return the mean of the numbers that ranks give, all at once."""
        if self.size == 1:
            return number
        return float(self.mean(torch.tensor(number, dtype=torch.float64, device=device)))

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean of a floating-point tensor over ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor, group=self.group)
            tensor.div_(self.size)
        return tensor

    def least(self, tensor: Tensor) -> Tensor:
        """Return the smallest of a tensor's elements over ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.MIN, group=self.group)
        return tensor

    def agree(self, said: Mapping[str, Any]) -> None:
        """Compare what each rank is about to do, which plain values and lists describe.

        Raises:
            RankError: On every rank alike, if two differ or one has refused.
        """
        answers = self.gather(dict(said))
        for rank, answer in enumerate(answers):
            if REFUSED in answer:
                raise RankError(f"Rank {rank} refused, and with it all others: {answer[REFUSED]}")
        for rank, answer in enumerate(answers):
            for key, here in answers[0].items():
                if answer.get(key) != here:
                    one, two = _first_difference(here, answer.get(key))
                    raise RankError(
                        f"Ranks differ in {key}: rank 0 has {shorten(str(one))}, rank {rank} has "
                        f"{shorten(str(two))}: start every rank with the same model, method and "
                        "numbers."
                    )

    @contextmanager
    def refusing_together(self) -> Iterator[None]:
        """Tell the others of an error inside, so that none waits for this rank in :meth:`agree`."""
        try:
            yield
        except Exception as error:
            if self.size > 1:
                self.gather({REFUSED: str(error)})
            raise

    def check_equal(self, number: Tensor, what: str) -> None:
        """Compare a 0-d int64 tensor; asks the device if there are several ranks.

        Raises:
            RankError: On every rank alike, if two differ.
        """
        if self.size == 1:
            return
        low, high = self.least(torch.stack([number, -number])).tolist()
        if low != -high:
            raise RankError(
                f"Ranks differ in {what}: their weights are no longer the same. Gradients must be "
                "averaged over ranks before each step (DistributedDataParallel does), and nothing "
                "may change the weights of one rank alone."
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        """Return this one: a group cannot be copied."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: a group cannot leave its processes."""
        return {"group": None}


def _running() -> bool:
    return dist.is_available() and dist.is_initialized()


def _first_difference(one: Any, two: Any) -> tuple[Any, Any]:
    if isinstance(one, list) and isinstance(two, list):
        for a, b in zip(one, two, strict=False):
            if a != b:
                return a, b
        return f"{len(one)} of them", f"{len(two)}"
    return one, two
