"""``runs.json``: every raw run of a comparison, in a stable order and format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirrormask.errors import DataError
from mirrormask.study.compare.plan import Plan, Result, Run
from mirrormask.study.run_folder import write_text

RUNS = "runs.json"
FORMAT = 1
_ASKED: dict[str, Callable[[Run], Any]] = {
    "run": lambda run: run.key,
    "phase": lambda run: run.phase,
    "problem": lambda run: run.cell.problem.name,
    "method": lambda run: run.cell.method,
    "sparsity": lambda run: run.cell.sparsity,
    "trial": lambda run: run.trial,
    "seed": lambda run: run.seed,
    "lr": lambda run: run.lr,
    "knobs": lambda run: dict(run.cell.fixed) | dict(run.knobs),
    "digest": lambda run: run.digest,
}
"""What a record tells of a run beside its result."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """What a comparison found, and all that its page is drawn from.

    Attributes:
        settings: As plain values.
        reference: The method that others are compared with.
        planned: Number of runs of the whole comparison.
        runs: One mapping a finished run.
    """

    settings: dict[str, Any]
    reference: str
    planned: int
    runs: list[dict[str, Any]]

    @classmethod
    def collect(cls, plan: Plan, results: Mapping[str, Result]) -> Records:
        """Return the finished runs in the order of the plan."""
        runs = [
            {name: tell(run) for name, tell in _ASKED.items()} | results[run.digest]
            for run in plan.runs(results)
            if run.digest in results
        ]
        return cls(
            settings=plan.settings.to_mapping(),
            reference=plan.settings.compared_with,
            planned=plan.settings.runs,
            runs=runs,
        )

    def results(self) -> dict[str, Result]:
        """Return what came out of each run, by digest.

        Raises:
            DataError: If a run has no digest.
        """
        try:
            return {
                run["digest"]: {key: run[key] for key in run if key not in _ASKED}
                for run in self.runs
            }
        except KeyError as error:
            raise DataError("A run has no digest: remove runs.json to do all runs anew.") from error

    @classmethod
    def read(cls, path: Path) -> Records:
        """Return what :meth:`write` stored.

        Raises:
            DataError: If there is no such file, or it is damaged or of another format.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            same = content.pop("format") == FORMAT
            records = cls(**content) if same else None
        except OSError as error:
            raise DataError(
                f"{path} cannot be read ({error.strerror}): give the folder of a comparison as "
                "--out."
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{path} is damaged ({error}): remove it, and run the comparison again."
            ) from error
        if records is None:
            raise DataError(f"{path} is of another format: draw it with the version that wrote it.")
        return records

    def write(self, path: Path) -> None:
        """Store everything, one line a run."""
        head = {
            "format": FORMAT,
            "settings": self.settings,
            "reference": self.reference,
            "planned": self.planned,
        }
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
        runs = ",\n".join(json.dumps(run) for run in self.runs)
        lines.append(f'"runs": [\n{runs}\n]')
        write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")
