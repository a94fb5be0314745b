"""What of a convolution's time is the way of its images to and from memory.

python benchmarks/image_traffic.py

The same convolution is timed three times in the same turns, against the best dense runtime: on
sixteen images that lie side by side, as a caller has them; on sixteen that all lie at one place,
and whose results all go to one place, so that everything is done as before but nothing comes from
beyond the second-level cache; and on one image. What the first takes longer than the second is the
way to memory. The largest images are timed once more in short turns without settling, where the
first calls find what a dense runtime left in the caches. Raw figures go to
benchmarks/results/image_traffic.json.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kept_memory import keep_freed_memory
from mirrormask.deploy import SparseConv2d
from mirrormask.deploy.benchmark import BLOCK_MS, SETTLE_MS
from mirrormask.deploy.conv_plans import TilesPlan
from mirrormask.deploy.kernel_conv import ConvKernel
from mirrormask.deploy.rivals import rivals
from mirrormask.deploy.timing import Run, interleave, machine, pinned_threads
from networks import cut

RESULT = Path(__file__).parent / "results" / "image_traffic.json"
LEVELS = (0.9, 0.95, 0.99)
CONVOLUTIONS = ((64, 56), (256, 14), (512, 7))
IMAGES, ROUNDS = 16, 31


def planned(layer: SparseConv2d, x: torch.Tensor) -> TilesPlan | None:
    """Return the plan of a layer for these images, if it is one of tiles."""
    made = layer.made()
    if not isinstance(made, ConvKernel):
        return None
    made(x)
    plan = made.plans[x.shape]
    return plan if isinstance(plan, TilesPlan) else None


def sparse_runs(layers: list[SparseConv2d], x: torch.Tensor, y: torch.Tensor) -> dict[str, Run]:
    """Return calls of the kernel: one image, and many in two ways; none where it is not in tiles.

    Three copies of the layer, because plans are changed; all that is given must be kept alive.
    """
    one, many, near = (
        planned(layer, images) for layer, images in zip(layers, (x[:1], x, x), strict=True)
    )
    if one is None or many is None or near is None:
        return {}
    near.tiles.input.image = near.tiles.output.image = 0
    source, target = x.data_ptr(), y.data_ptr()
    return {
        "one image": lambda: one.run(source, target, threads=1),
        "many images": lambda: many.run(source, target, threads=1),
        "many at one place": lambda: near.run(source, target, threads=1),
    }


def dense_runs(layer: nn.Conv2d, x: torch.Tensor) -> dict[str, Run]:
    """Return calls of every dense runtime that is compared with."""
    runs: dict[str, Run] = {}
    for number, images in (("one", x[:1]), ("many", x)):
        found, _ = rivals(layer, (images,), {}, threads=1, runtimes=("ONNX Runtime",))
        runs |= {f"{number}, {rival.name}": rival.prepare((images,), {}) for rival in found}
    return runs


def row_of(
    width: int,
    size: int,
    sparsity: float,
    *,
    block_ms: float = BLOCK_MS,
    settle_ms: float = SETTLE_MS,
) -> dict[str, Any] | None:
    torch.manual_seed(0)
    layer = nn.Conv2d(width, width, 3, padding=1)
    cut(layer, sparsity)
    x = torch.randn(IMAGES, width, size, size)
    y, copies = torch.empty_like(x), [SparseConv2d.from_conv(layer) for _ in range(3)]
    sparse, dense = sparse_runs(copies, x, y), dense_runs(layer, x)
    if not sparse:
        print(f"3x3 {width}@{size} {sparsity:.0%}: not in tiles here", flush=True)
        return None
    timings = interleave(sparse | dense, rounds=ROUNDS, block_ms=block_ms, settle_ms=settle_ms)
    row: dict[str, Any] = {"convolution": f"3x3 {width}@{size}", "sparsity": sparsity}
    for name in sparse:
        number = "one" if name == "one image" else "many"
        best = min((d for d in dense if d.startswith(f"{number},")), key=timings.median)
        gain = timings.speedup(name, over=best)
        row[name] = {
            "milliseconds": timings.median(name),
            "over": best.split(", ")[1],
            "gain": gain.median,
            "low": gain.low,
            "high": gain.high,
        }
    way = timings.speedup("many at one place", over="many images")
    row["way"] = asdict(way)
    gains = ", ".join(f"{name} {row[name]['gain']:.2f}x" for name in sparse)
    print(
        f"{row['convolution']} {sparsity:.0%}: {gains}; the way to memory makes it "
        f"{way.median:.2f} ({way.low:.2f}-{way.high:.2f}) times as long",
        flush=True,
    )
    return row


def main() -> None:
    keep_freed_memory()
    with pinned_threads(1), torch.inference_mode():
        rows = [row_of(*sizes, level) for sizes in CONVOLUTIONS for level in LEVELS]
        cold = [row_of(*CONVOLUTIONS[0], level, block_ms=10.0, settle_ms=0.0) for level in LEVELS]
    data: dict[str, Any] = {"machine": machine(), "images": IMAGES}
    data |= {"rows": [row for row in rows if row], "unsettled": [row for row in cold if row]}
    RESULT.write_text(json.dumps(data, indent=1) + "\n")
    print("written", RESULT.name)


if __name__ == "__main__":
    main()
