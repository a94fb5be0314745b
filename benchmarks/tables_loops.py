"""The measured tables of docs/loops.md; page_tables.py puts them there."""

from __future__ import annotations

from raw_results import data, percent, table, times

SIZES = {"transformer-1m": "1 M weights", "transformer-10m": "10 M", "transformer-100m": "100 M"}
BASES = {"sgd": "SGD, momentum", "adamw": "AdamW"}
CONTENDERS = {
    "plain again": "the plain optimizer once more",
    "mirror": "`Mirror`",
    "mirror, proximal": "`Mirror`, proximal pressure",
    "factors": "`Factors`",
    "factors, proximal": "`Factors`, proximal pressure",
    "pilot, pressing": "`pilot`, pressing and sensing",
}


def steps() -> str:
    """Return the cost of a step next to the plain optimizer's; a dash was not measured."""
    models = data("step_time")["models"]
    lines = []
    for base, title in BASES.items():
        for contender, label in CONTENDERS.items():
            cells = []
            for size in SIZES:
                row = models[size][base]["contenders"].get(contender)
                cells.append("-" if row is None else f"{row['ratio']:.3f}")
            lines.append([f"{title}: {label}", *cells])
    return table(["", *SIZES.values()], lines)


def live() -> str:
    """Return how much faster steps on live weights are, and what they keep."""
    rows = data("live_training")["rows"]
    lines = [
        [
            row["model"].partition(" d=")[0],
            percent(row["sparsity"]),
            str(row["batch"]),
            *[
                times(row[f"over {rival}"][0]) if f"over {rival}" in row else "-"
                for rival in ("dense", "masked", "SparseLab")
            ],
            f"{row['bytes over dense']:.2f}",
        ]
        for row in rows
    ]
    headings = ["", "zeros", "batch", "over dense", "over masked", "over SparseLab", "bytes"]
    return table(headings, lines)


PARTS = {"steps": steps, "live": live}
