"""The main job on several ranks: it joins those that torchrun has started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist

from mirrormask.errors import OutputError
from mirrormask.ranks import Ranks
from mirrormask.study.run_folder import CONFIG


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the ranks of torchrun, and leave them at the end; alone where it started none.

    Example:
        >>> with joined() as ranks:
        ...     ranks.size
        1
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield Ranks()
        return
    dist.init_process_group("gloo")
    try:
        yield Ranks()
    finally:
        dist.destroy_process_group()


def ranks_here() -> int:
    """Return how many ranks run on this machine, as torchrun says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def check_shared(folder: Path, ranks: Ranks) -> None:
    """Refuse a run folder that only some ranks see, where the first one has begun a run.

    Raises:
        OutputError: On every rank alike.
    """
    seen = ranks.gather((folder / CONFIG).exists())
    if not all(seen):
        raise OutputError(
            f"Rank {seen.index(False)} does not see the run that rank 0 has begun in {folder}: "
            "give an --out that all machines share."
        )
