"""Time a model with zeros in every dense runtime at hand against its compiled sparse form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mirrormask.deploy.bench_report import BenchReport, BenchRow
from mirrormask.deploy.compiling import compile as compile_model
from mirrormask.deploy.compiling import speed_report
from mirrormask.deploy.example_inputs import Inputs, arguments_of
from mirrormask.deploy.export import densified
from mirrormask.deploy.outputs import output_error
from mirrormask.deploy.rivals import RUNTIMES, Contender, rivals, torch_contender
from mirrormask.deploy.timing import interleave, machine, pinned_threads
from mirrormask.errors import ArgumentError

_OURS = "mirrormask"
# Steady use: what is timed finds the caches as the calls before it left them.
SETTLE_MS, BLOCK_MS = 10.0, 30.0


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What to time: batch sizes, thread counts, rival runtimes, and interleaved rounds."""

    batches: tuple[int, ...] = (1, 8, 64)
    threads: tuple[int, ...] = (1,)
    runtimes: tuple[str, ...] = RUNTIMES
    rounds: int = 25

    def __post_init__(self) -> None:
        for name, sizes in (("batches", self.batches), ("threads", self.threads)):
            if not sizes or any(size < 1 for size in sizes):
                raise ArgumentError(f"{name}={sizes} must be whole numbers of 1 or more")
        unknown = sorted(set(self.runtimes) - set(RUNTIMES))
        if unknown:
            raise ArgumentError(f"runtimes {unknown} are unknown: choose from {list(RUNTIMES)}")
        if self.rounds < 7:
            raise ArgumentError(f"rounds={self.rounds} is too few for a median: give 7 or more")


def bench(
    model: nn.Module,
    example_inputs: Inputs,
    *,
    data: tuple[torch.Tensor, torch.Tensor] | None = None,
    options: BenchOptions | None = None,
) -> BenchReport:
    """Time a model dense in eager torch, torch.compile, ONNX Runtime and OpenVINO, and compiled.

    Dense int8 in ONNX Runtime stands beside them as the honest competitor. Runtimes that are not
    installed are named in the report.

    Args:
        model: A model on the CPU; it is not changed.
        example_inputs: A tensor, a tuple of arguments or a mapping of keyword arguments. The
            first dimension of each tensor is the batch and is repeated to the sizes asked for.
        data: Inputs and integer labels, for the accuracy of every contender.
        options: Batch sizes, threads and rounds.

    Returns:
        A report with a table, JSON and a picture.

    Raises:
        ArgumentError: The model does not run on the example, or the options are impossible.

    Example:
        >>> import torch
        >>> options = BenchOptions(batches=(1,), runtimes=(), rounds=7)
        >>> report = bench(torch.nn.Linear(8, 4), torch.randn(1, 8), options=options)
        >>> report.row("mirrormask", batch=1).output_error < 1e-4
        True
    """
    options = options or BenchOptions()
    dense = densified(model)
    rows: list[BenchRow] = []
    missing: dict[str, str] = {}
    for threads in options.threads:
        with pinned_threads(threads):
            for batch in options.batches:
                inputs, keywords = _at_batch(example_inputs, batch)
                compiled = compile_model(dense, keywords or inputs)
                found, lacking = rivals(
                    dense, inputs, keywords, threads=threads, runtimes=options.runtimes
                )
                ours = torch_contender(_OURS, "ours", compiled)
                missing |= lacking
                note = speed_report(compiled).verdict
                rows += _rows([*found, ours], inputs, keywords, data, options.rounds, note)
    return BenchReport(
        rows=tuple(rows), missing=missing, sparsity=_sparsity(dense), machine=machine()
    )


def _rows(
    contenders: list[Contender],
    inputs: tuple[Any, ...],
    keywords: Mapping[str, Any],
    data: tuple[torch.Tensor, torch.Tensor] | None,
    rounds: int,
    note: str,
) -> Iterable[BenchRow]:
    runs = {entry.name: entry.prepare(inputs, keywords) for entry in contenders}
    expected = contenders[0].outputs(inputs, keywords)
    timings = interleave(runs, rounds=rounds, block_ms=BLOCK_MS, settle_ms=SETTLE_MS)
    dense = [entry.name for entry in contenders if entry.kind == "dense"]
    # By interleaved ratios, because medians of times move with whatever else the machine does.
    best = max(dense, key=lambda name: timings.speedup(name, over=dense[0]).median)
    tensors = [x for x in (*inputs, *keywords.values()) if isinstance(x, torch.Tensor)]
    for entry in contenders:
        yield BenchRow(
            batch=tensors[0].shape[0],
            threads=torch.get_num_threads(),
            contender=entry.name,
            kind=entry.kind,
            milliseconds=timings.median(entry.name),
            gain=timings.speedup(entry.name, over=best),
            best_dense=best,
            weight_bytes=entry.weight_bytes,
            output_error=output_error(entry.outputs(inputs, keywords), expected),
            accuracy=None if data is None else _accuracy(entry, tensors[0].shape[0], data),
            note=note if entry.kind == "ours" else "",
        )


def _at_batch(example: Inputs, batch: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    inputs, keywords = arguments_of(example)
    tensors = [x for x in (*inputs, *keywords.values()) if isinstance(x, torch.Tensor)]
    if not tensors or any(x.ndim == 0 or x.shape[0] == 0 for x in tensors):
        raise ArgumentError("the example has no batch to repeat: give tensors [batch, ...]")

    def resize(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return value[torch.arange(batch) % value.shape[0]].contiguous()

    return tuple(map(resize, inputs)), {name: resize(value) for name, value in keywords.items()}


def _accuracy(entry: Contender, batch: int, data: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Return the share of right labels; whole batches only, because exported graphs are fixed."""
    inputs, labels = data
    count = len(inputs) - len(inputs) % batch
    if count == 0:
        raise ArgumentError(f"the data holds {len(inputs)} examples, fewer than a batch of {batch}")
    right = 0
    for start in range(0, count, batch):
        scores = entry.outputs((inputs[start : start + batch].contiguous(),), {})[0]
        right += int((scores.argmax(dim=-1) == labels[start : start + batch]).sum())
    return right / count


def _sparsity(model: nn.Module) -> float:
    """Return the share of zeros in all weights of two or more dimensions."""
    weights = [p for p in model.parameters() if p.ndim >= 2]
    total = sum(weight.numel() for weight in weights)
    zeros = total - sum(int(torch.count_nonzero(weight)) for weight in weights)
    return zeros / max(1, total)
