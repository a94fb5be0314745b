"""The registry as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from mirrormask.methods.record import Knob, Method

REACHES = {"mask": "by its masking", "strength": "by its strength, then a cut"}


def methods_table(records: Iterable[Method]) -> Table:
    """Return one row a method: what it does, how it reaches a target, its knobs, its source."""
    table = Table(
        "method", "what it does", "target", "knobs: range (default)", "source", title="Methods"
    )
    for record in records:
        target = REACHES[record.reaches]
        if record.sparsities:
            target += "; only " + ", ".join(f"{sparsity:g}" for sparsity in record.sparsities)
        for refusal in record.refuses:
            target += f"; not {refusal.setting}: {refusal.reason}"
        knobs = "\n".join(map(describe, record.knobs)) or "none"
        table.add_row(record.name, record.summary, target, knobs, record.source)
    return table


def describe(knob: Knob) -> str:
    """Return a knob in a few words.

    Example:
        >>> describe(Knob(name="strength", default=5e-5, low=1e-6, high=1e-3))
        'strength: 1e-06 to 0.001 (5e-05)'
    """
    return f"{knob.name}: {knob.low:g} to {knob.high:g} ({knob.default:g})"
