"""Results that are left of an earlier study: its ``runs.json`` without its database."""

from __future__ import annotations

from pathlib import Path

from mirrormask.study.compare.plan import Plan
from mirrormask.study.compare.queue import Queue
from mirrormask.study.compare.records import Records


def take_in(plan: Plan, queue: Queue, path: Path) -> None:
    """Store results that a comparison has on file but not in its study, as if just done.

    So a comparison whose page is all that was kept can be given more methods or seeds. A result
    counts only if its digest is that of a run of the plan, which changes with all that decides it.

    Args:
        plan: Of the comparison as it is now.
        queue: Of its study.
        path: Of ``runs.json``, which need not be there.

    Raises:
        DataError: If the file is damaged or of another format.
    """
    if not path.exists():
        return
    on_file = Records.read(path).results()
    for run in plan.runs(on_file | queue.results):
        if run.digest not in on_file or run.digest in queue.results:
            continue
        claim = queue.claim(run)
        if claim is not None:
            with claim:
                claim.finish(on_file[run.digest])
    queue.refresh()
