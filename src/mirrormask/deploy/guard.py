"""The last word on a compiled model: whole net against whole net, or the dense model stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from mirrormask.deploy.model_graph import storage_bytes
from mirrormask.deploy.outputs import output_error
from mirrormask.deploy.runner.attached import planned_of
from mirrormask.deploy.runner.forward import ProgramForward
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.split_forward import SplitForward
from mirrormask.deploy.runner.trial import with_program, with_regions
from mirrormask.deploy.speed import LayerSpeed, Plan, SpeedReport
from mirrormask.deploy.timing import Timings, interleave, machine

_MIN_GAIN = 1.03
_ATTEMPTS = 3
# What is timed finds the caches as calls before it left them, not another contender; and turns are
# so long that threads which the one before left spinning are asleep for most of the next.
_SETTLE_MS, _BLOCK_MS = 1.0, 5.0


@dataclass
class CompileJob:
    """A model on its way: the dense reference, the rewritten copy and what is known of them."""

    dense: nn.Module
    rewritten: nn.Module
    inputs: tuple[Any, ...]
    keywords: Mapping[str, Any]
    expected: object
    notes: list[str]

    def run(self, model: nn.Module) -> object:
        """Return what a model makes of the example."""
        with torch.inference_mode():
            return model(*self.inputs, **self.keywords)

    def error(self, model: nn.Module) -> float:
        """Return how far a model's outputs are from the dense reference."""
        try:
            return output_error(self.run(model), self.expected)
        # A rewritten model that fails is as wrong as one whose outputs differ, and as harmless.
        except Exception as error:
            self.notes.append(f"a rewritten form failed: {type(error).__name__}")
            return float("inf")


def keep_fastest(
    job: CompileJob,
    compiled: nn.Module,
    layers: list[LayerSpeed],
    *,
    tolerance: float,
    rounds: int,
    plain: nn.Module | None = None,
    plan: Plan | None = None,
) -> nn.Module:
    """Time the whole nets against each other and return the one to use, with its report.

    ``plain`` is the rewritten model in ordinary layers, if running it as one program is to be tried
    as well, and in regions where it cannot; ``plan`` says how, where that was decided before.
    """
    contenders: dict[str, nn.Module] = {"dense": job.dense}
    if job.rewritten is not job.dense:
        contenders["rewritten"] = job.rewritten
    sparse = [layer for layer in layers if layer.choice != "dense"]
    if sparse:
        error = job.error(compiled)
        if error <= tolerance:
            contenders["sparse"] = compiled
        else:
            job.notes.append(f"sparse layers were undone: outputs would differ by {error:.1e}")
    if plain is not None:
        found = _planned(job, plain, contenders.get("sparse", job.rewritten), plan, tolerance)
        if found is not None:
            contenders["program"] = found
    best, timings = _fastest(job, contenders, rounds)
    chosen = contenders[best]
    report = _report(job, chosen, best, timings, layers)
    chosen.speed_report = report  # type: ignore[assignment]
    return chosen


def _planned(
    job: CompileJob, plain: nn.Module, compiled: nn.Module, plan: Plan | None, tolerance: float
) -> nn.Module | None:
    """Return the net as one program, or in regions, or None; notes say why not as one."""
    part, slow = (None, None) if plan is None else (plan.part, plan.slow)
    given = plain, compiled, job.inputs
    forms: dict[str, Callable[[], nn.Module]] = {
        "as one program": partial(with_program, *given, job.expected, part=part),
        "in regions": partial(with_regions, *given, keywords=job.keywords, part=part, slow=slow),
    }
    if job.keywords:
        job.notes.append("not run as one program: keyword inputs")
        del forms["as one program"]
    for name, attempt in forms.items():
        try:
            found = attempt()
        except UnsupportedError as reason:
            job.notes.append(f"not run {name}: {reason}")
            continue
        error = job.error(found)
        if error <= tolerance:
            return found
        job.notes.append(f"not run {name}: outputs would differ by {error:.1e}")
    return None


def _fastest(
    job: CompileJob, contenders: Mapping[str, nn.Module], rounds: int
) -> tuple[str, Timings]:
    runs = {name: _runner(job, net) for name, net in contenders.items()}
    for _ in range(_ATTEMPTS):
        timings = interleave(runs, rounds=rounds, block_ms=_BLOCK_MS, settle_ms=_SETTLE_MS)
        gains = {name: timings.speedup(name, over="dense") for name in runs}
        best = min(contenders, key=timings.median)
        # What a quarter of the rounds contradict may be noise, a lead or the lack of one: measure
        # again. One bad moment would stay with the model for good.
        if gains[best].median >= _MIN_GAIN and gains[best].low > 1.0:
            return best, timings
        if all(gain.high < _MIN_GAIN for gain in gains.values()):
            break
    return "dense", timings


def _runner(job: CompileJob, model: nn.Module) -> Any:
    return lambda: job.run(model)


def _report(
    job: CompileJob, chosen: nn.Module, best: str, timings: Timings, layers: list[LayerSpeed]
) -> SpeedReport:
    gain = timings.speedup(best, over="dense")
    used = [layer for layer in layers if best != "rewritten" and layer.choice != "dense"]
    used = used if best != "dense" else []
    planned = planned_of(chosen)
    if best == "dense":
        tried = [name for name in timings.milliseconds if name != "dense"]
        ratios = [f"{timings.speedup(name, over='dense').median:.2f}x" for name in tried]
        why = f"the best alternative ran at {', '.join(ratios)}" if tried else "no layer gained"
        verdict = f"not faster: the dense model is kept ({why})"
    elif planned is not None:
        part = f"{planned.part} {'example' if planned.part == 1 else 'examples'} at a time"
        verdict = f"{gain.median:.2f}x faster than dense eager torch, {_form(planned)}, {part}"
    else:
        verdict = f"{gain.median:.2f}x faster than dense eager torch, {len(used)} sparse layers"
    notes = list(job.notes)
    if isinstance(planned, SplitForward) and planned.split.left:
        notes.append(f"left to torch: {', '.join(planned.split.left)}")
    tensors = [*job.inputs, *job.keywords.values()]
    return SpeedReport(
        layers=tuple(layers),
        faster=best != "dense",
        verdict=verdict,
        notes=tuple(notes),
        dense_ms=timings.median("dense"),
        compiled_ms=timings.median(best),
        speedup=gain.median,
        speedup_low=gain.low,
        speedup_high=gain.high,
        dense_bytes=storage_bytes(job.dense),
        compiled_bytes=storage_bytes(chosen) + (planned.nbytes if planned else 0),
        max_error=job.error(chosen),
        plan=Plan(
            choices={layer.name: layer.choice for layer in used},
            rewrite=best != "dense" and job.rewritten is not job.dense,
            part=planned.part if planned else 0,
            slow=planned.split.slow if isinstance(planned, SplitForward) else (),
        ),
        threads=torch.get_num_threads(),
        shapes=tuple(str(list(x.shape)) for x in tensors if isinstance(x, torch.Tensor)),
        machine=machine(),
    )


def _form(planned: ProgramForward | SplitForward) -> str:
    if isinstance(planned, ProgramForward):
        return f"as one program of {planned.steps} steps"
    count = len(planned.split.regions)
    return (
        f"in {count} region{'' if count == 1 else 's'} of {planned.steps} steps with torch between"
    )
