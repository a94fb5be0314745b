"""One rank of a test: ``conftest.run_ranks`` runs this file in processes of their own.

A function in a test file cannot be sent to another process, since pytest does not import test files
by names that others know: it is found by its file and name instead.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import traceback
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def main(job: dict[str, Any], rank: int) -> None:
    torch.set_num_threads(1)
    answer: dict[str, Any] = {}
    try:
        if job["hosts"]:
            move_to(job["hosts"][rank])
        dist.init_process_group(
            "gloo", init_method=f"file://{job['meet']}", rank=rank, world_size=job["world"]
        )
        function = runpy.run_path(job["file"])[job["function"]]
        answer["result"] = function(rank, job["world"], *job["arguments"])
    except BaseException:
        answer["error"] = traceback.format_exc()
    torch.save(answer, f"{job['answers']}/{rank}.pt")
    if dist.is_initialized() and "error" not in answer:
        dist.destroy_process_group()


def move_to(host: dict[str, str]) -> None:
    """Leave for a network namespace; os.setns comes with Python 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/var/run/netns/{host['name']}").open() as namespace:
        if libc.setns(namespace.fileno(), 0x40000000):  # CLONE_NEWNET
            raise OSError(ctypes.get_errno(), "setns")
    os.environ["GLOO_SOCKET_IFNAME"] = host["interface"]


if __name__ == "job":
    main(globals()["job"], globals()["rank"])
