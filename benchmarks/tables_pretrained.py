"""The measured tables of docs/pretrained.md; page_tables.py puts them there."""

from __future__ import annotations

from statistics import mean
from typing import Any

from raw_results import data, percent, table

SPARSITIES = (0.5, 0.7, 0.8, 0.9)
METHODS = ("pilot", "gmp", "l1-freeze", "one-shot")
TITLES = {"one-shot": "magnitude, one-shot"}


def cosines() -> str:
    """Return the table of cosines on held-out text; the best of each column is bold."""
    runs = data("minilm")["runs"]
    shown = {key: f"{row['test']:.3f}" for key, row in runs.items() if "test" in row}
    best = {s: max(shown[f"{method}, {s}"] for method in METHODS) for s in SPARSITIES}
    rows = []
    for method in METHODS:
        cells = []
        for sparsity in SPARSITIES:
            value = shown[f"{method}, {sparsity}"]
            cells.append(f"**{value}**" if value == best[sparsity] else value)
        rows.append([TITLES.get(method, f"`{method}`"), *cells])
    return table(["", *map(percent, SPARSITIES)], rows)


def latencies() -> str:
    """Return the table of latencies of the packed 90 % model."""
    rows = data("minilm_speed")["rows"]
    batches = sorted({row["batch"] for row in rows})
    lines = []
    for name in dict.fromkeys(row["contender"] for row in rows):
        cells = []
        for batch in batches:
            (row,) = (r for r in rows if (r["batch"], r["contender"]) == (batch, name))
            gain = row["gain"]
            cells.append(f"{row['milliseconds']:.1f} ({gain['median']:.2f}x)")
        lines.append([name, *cells])
    return table(["", *(f"{n} text{'s' if n > 1 else ''}, ms" for n in batches)], lines)


def sizes() -> str:
    """Return the table of file sizes at 90 %."""
    size, cosine = data("minilm")["runs"]["pilot, 0.9"]["bytes"], data("minilm_speed")["cosine"]
    lines = [["dense, float32", f"{size['dense'] / 1e6:.1f}", "1", ""]]
    for values in cosine:
        count = size[f"packed, {values}"]
        ratio = f"{size['dense'] / count:.2f}x"
        lines.append([f"packed, `{values}`", f"{count / 1e6:.1f}", ratio, f"{cosine[values]:.3f}"])
    return table(["values in the file", "MB", "smaller", "cosine"], lines)


def fine_tuned() -> str:
    """Return EfficientNet-Lite0's test accuracy at each share of zeros, in equal CPU time."""
    content = data("efficientnet")
    lines = []
    for level in efficientnet_levels(content):
        found = [run for key, run in content["runs"].items() if key.startswith(f"{level}, seed")]
        accuracies = [f"{run['test']:.4f}" for run in found]
        lines.append(
            [
                spaced(level),
                f"{found[0]['lr']:g}",
                f"{found[0]['steps']}",
                f"{mean(run['cpu_seconds'] for run in found):.0f}",
                ", ".join(accuracies),
                f"**{mean(run['test'] for run in found):.3f}**",
            ]
        )
    return table(["", "rate", "steps", "CPU seconds", "test, each seed", "mean"], lines)


def rates() -> str:
    """Return the held-out accuracy of EfficientNet-Lite0 at each rate, at half the budget."""
    content = data("efficientnet")
    tried = [f"{rate:g}" for rate in sorted({run["lr"] for run in content["runs"].values()})]
    lines = []
    for level in efficientnet_levels(content):
        cells = [content["runs"][f"tuning {level}, lr {rate}"]["validation"] for rate in tried]
        lines.append([spaced(level), *(f"{cell:.3f}" for cell in cells)])
    return table(["rate", *tried], lines)


def spaced(level: str) -> str:
    """Write ``90% zeros``, as in the keys of the runs, as the pages do."""
    return level.replace("%", " %")


def efficientnet_levels(content: dict[str, Any]) -> list[str]:
    """Return what stands in the keys of the runs, dense first."""
    return ["dense", *(f"{level:.0%} zeros" for level in content["settings"]["sparsities"])]


PARTS = {
    "cosines": cosines,
    "sizes": sizes,
    "latencies": latencies,
    "fine-tuned": fine_tuned,
    "rates": rates,
}
