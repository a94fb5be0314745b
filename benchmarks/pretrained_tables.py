"""Print the tables of docs/pretrained.md from the raw runs.

python benchmarks/pretrained_tables.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SPARSITIES = (0.5, 0.7, 0.8, 0.9)
METHODS = ("pilot", "gmp", "l1-freeze", "one-shot")
TITLES = {"one-shot": "magnitude, one-shot"}


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def cosines() -> list[str]:
    """Return the table of cosines on held-out text; the best of each column is bold."""
    runs = read("minilm")["runs"]
    shown = {key: f"{row['test']:.3f}" for key, row in runs.items() if "test" in row}
    best = {s: max(shown[f"{method}, {s}"] for method in METHODS) for s in SPARSITIES}
    lines = ["| | " + " | ".join(f"{s:.0%}".replace("%", " %") for s in SPARSITIES) + " |"]
    lines.append("|---" * (len(SPARSITIES) + 1) + "|")
    for method in METHODS:
        cells = []
        for sparsity in SPARSITIES:
            value = shown[f"{method}, {sparsity}"]
            cells.append(f"**{value}**" if value == best[sparsity] else value)
        lines.append(f"| {TITLES.get(method, f'`{method}`')} | " + " | ".join(cells) + " |")
    return lines


def latencies() -> list[str]:
    """Return the table of latencies of the packed 90 % model."""
    rows = read("minilm_speed")["rows"]
    batches = sorted({row["batch"] for row in rows})
    lines = [
        "| | " + " | ".join(f"{n} text{'s' if n > 1 else ''}, ms" for n in batches) + " |",
        "|---" * (len(batches) + 1) + "|",
    ]
    for name in dict.fromkeys(row["contender"] for row in rows):
        cells = []
        for batch in batches:
            (row,) = (r for r in rows if (r["batch"], r["contender"]) == (batch, name))
            gain = row["gain"]
            cells.append(f"{row['milliseconds']:.1f} ({gain['median']:.2f}x)")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def sizes() -> list[str]:
    """Return the table of file sizes at 90 %."""
    size, cosine = read("minilm")["runs"]["pilot, 0.9"]["bytes"], read("minilm_speed")["cosine"]
    lines = ["| values in the file | MB | smaller | cosine |", "|---|---|---|---|"]
    lines.append(f"| dense, float32 | {size['dense'] / 1e6:.1f} | 1 | |")
    for values in cosine:
        count = size[f"packed, {values}"]
        lines.append(
            f"| packed, `{values}` | {count / 1e6:.1f} | {size['dense'] / count:.2f}x "
            f"| {cosine[values]:.3f} |"
        )
    return lines


def rates() -> list[str]:
    """Return the held-out accuracy of EfficientNet-Lite0 at each rate that was tried."""
    runs = read("efficientnet")["runs"]
    tried = [key.removeprefix("tuning dense, lr ") for key in runs if key.startswith("tuning d")]
    lines = ["| rate | " + " | ".join(tried) + " |", "|---" * (len(tried) + 1) + "|"]
    for kind, title in (("dense", "dense"), ("sparse", "`pilot`, 90 % zeros")):
        cells = [f"{runs[f'tuning {kind}, lr {rate}']['validation']:.3f}" for rate in tried]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def tables() -> list[list[str]]:
    return [cosines(), sizes(), latencies(), rates()]


if __name__ == "__main__":
    for lines in tables():
        print("\n".join(lines), end="\n\n")
