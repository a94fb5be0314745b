"""Results that are left of an earlier study: its ``runs.json`` without its database."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from mirrormask.errors import CheckpointError
from mirrormask.study.compare.plan import Plan
from mirrormask.study.compare.queue import Queue
from mirrormask.study.compare.records import Records


def refuse_loss(
    plan: Plan, queue: Queue, earlier: Records, path: Path, *, redo: Collection[str] = ()
) -> None:
    """Refuse to write a ``runs.json`` anew that holds what is nowhere else.

    Args:
        plan: Of the comparison as it is now.
        queue: Of its study.
        earlier: What the file holds.
        path: Of the file.
        redo: Methods whose results are to be thrown away.

    Raises:
        CheckpointError: If the file holds results that are in no study and not of this comparison.
    """
    kept = {run.digest for run in plan.runs(earlier.results() | queue.results)}
    kept |= queue.results.keys()
    lost = [r for r in earlier.runs if r["digest"] not in kept and r["method"] not in redo]
    if lost:
        methods = ",".join(sorted({run["method"] for run in lost}))
        raise CheckpointError(
            f"{path} holds {len(lost)} runs that are not of this comparison, such as "
            f"{lost[0]['run']}, and would be written over: give another --out, move the file away, "
            f"or throw them away with --redo {methods}."
        )


def take_in(plan: Plan, queue: Queue, earlier: Records) -> None:
    """Store results that a comparison has on file but not in its study, as if just done.

    So a comparison whose page is all that was kept can be given more methods or seeds. A result
    counts only if its digest is that of a run of the plan, which changes with all that decides it.

    Args:
        plan: Of the comparison as it is now.
        queue: Of its study.
        earlier: What the file holds.
    """
    on_file = earlier.results()
    for run in plan.runs(on_file | queue.results):
        if run.digest not in on_file or run.digest in queue.results:
            continue
        claim = queue.claim(run)
        if claim is not None:
            with claim:
                claim.finish(on_file[run.digest])
    queue.refresh()
