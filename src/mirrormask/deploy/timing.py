"""Time several ways of doing the same thing so that the ratios can be believed.

Other work on the machine slows whoever happens to run. The contenders therefore take turns in
short blocks, in an order that rotates, and a ratio is the median of the ratios within each round.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from mirrormask.errors import ArgumentError

Run = Callable[[], object]
_MAX_CALLS = 1000
_LONG_MS = 100.0  # next to which filling the caches is nothing


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times faster one contender is: the median over rounds, with its quartiles."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Milliseconds a call, for each contender one figure a round."""

    milliseconds: Mapping[str, tuple[float, ...]]

    def median(self, name: str) -> float:
        """Return the median milliseconds of a call."""
        return statistics.median(self.milliseconds[name])

    def speedup(self, name: str, *, over: str) -> Ratio:
        """Return how many times faster ``name`` is than ``over``."""
        pairs = zip(self.milliseconds[over], self.milliseconds[name], strict=True)
        ratios = sorted(slow / fast for slow, fast in pairs)
        quarter = len(ratios) // 4
        return Ratio(
            median=statistics.median(ratios), low=ratios[quarter], high=ratios[-1 - quarter]
        )


def interleave(
    contenders: Mapping[str, Run],
    *,
    rounds: int = 15,
    block_ms: float = 0.5,
    settle_ms: float = 0.0,
) -> Timings:
    """Time the contenders in turns.

    Args:
        contenders: What to run, by name.
        rounds: How many turns each one gets; 7 or more.
        block_ms: A turn repeats its call until about this long, so that the clock does not matter.
        settle_ms: Before a turn is timed its call is repeated for about this long, because it
            finds the caches full of what another contender left. A turn has many small calls and
            few large ones, so without this a small call seems faster beside a large one than it
            is. Above 0 there is at least one such call; calls of 0.1 s and more go without.

    Raises:
        ArgumentError: There is nothing to run, or too few rounds for quartiles.

    Example:
        >>> runs = {"few": lambda: sum(range(100)), "many": lambda: sum(range(5000))}
        >>> interleave(runs).speedup("few", over="many").median > 1
        True
    """
    if not contenders or rounds < 7:
        raise ArgumentError(f"{len(contenders)} contenders, {rounds} rounds: give >= 1 and >= 7")
    calls, before = {}, {}
    for name, run in contenders.items():
        once = _quickest(run)
        calls[name] = _calls_in(block_ms, once)
        settles = settle_ms > 0 and once < _LONG_MS
        before[name] = _calls_in(settle_ms, once) if settles else 0
    found: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            for _ in range(before[name]):
                contenders[name]()
            found[name].append(_block(contenders[name], calls[name]))
    return Timings(milliseconds={name: tuple(times) for name, times in found.items()})


def _calls_in(milliseconds: float, once: float) -> int:
    return max(1, min(_MAX_CALLS, int(milliseconds / max(once, 1e-4))))


def _quickest(run: Run) -> float:
    run()
    run()
    return min(_block(run, 1) for _ in range(2))


def _block(run: Run, calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - begin) * 1e3 / calls


@contextmanager
def pinned_threads(threads: int) -> Iterator[None]:
    """Run torch with a fixed number of threads inside a ``with`` block.

    Raises:
        ArgumentError: ``threads`` is not at least 1.
    """
    if threads < 1:
        raise ArgumentError(f"threads={threads} is impossible: give 1 or more")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine() -> dict[str, str]:
    """Return what a timing depends on: processor, its vector units, cores, library versions."""
    return {
        "cpu": _cpu_name(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines[:40] if ":" in line)
    table = {key.strip(): value.strip() for key, value in fields.items()}
    parts = [table.get("model name", platform.machine())]
    parts += [f"{key} {table[key]}" for key in ("cpu family", "model") if key in table]
    return ", ".join(parts)
