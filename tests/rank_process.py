"""One rank of a test: ``conftest.run_ranks`` runs this file in processes of their own.

A function in a test file cannot be sent to another process, since pytest does not import test files
by names that others know: it is found by its file and name instead.
"""

from __future__ import annotations

import runpy
import traceback
from typing import Any

import torch
import torch.distributed as dist


def main(job: dict[str, Any], rank: int) -> None:
    torch.set_num_threads(1)
    answer: dict[str, Any] = {}
    try:
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


if __name__ == "job":
    main(globals()["job"], globals()["rank"])
