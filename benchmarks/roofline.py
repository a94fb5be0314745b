"""How much of this core's arithmetic the kernels reach, against a peak measured in the same turns.

python benchmarks/roofline.py

Operations are two for each weight that is not zero and each output it takes part in. Bytes are
those that must move at least once: weights with their indices, the input and the output. Linear
layers are timed by columns, where nothing is transposed; then whole, as a model calls them. The
narrow matrix, whose input fits the first-level cache, shows what the loads of the others cost.
Raw figures go to benchmarks/results/roofline.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kept_memory import keep_freed_memory
from mirrormask.deploy import SparseConv2d, SparseLinear
from mirrormask.deploy.sparse_linear import OutputLayout
from mirrormask.deploy.timing import interleave, machine
from mirrormask.kernels import Library, kernel_status, kernels
from networks import cut

RESULT = Path(__file__).parent / "results" / "roofline.json"
LEVELS = (0.9, 0.95, 0.99)
LINEAR = ((1024, 4096), (4096, 1024), (96, 4096))
CONVOLUTIONS = ((3, 64, 56), (3, 256, 14), (3, 512, 7), (1, 256, 14))
PEAK_ROUNDS, ROUNDS = 2000, 41


def measure(library: Library, name: str, run: Callable[[], object], work: dict[str, Any]) -> Any:
    """Time a call and the peak in turns; return the row."""
    operations = library.peak(library.variant, 1) * PEAK_ROUNDS
    runs = {"kernel": run, "peak": lambda: library.peak(library.variant, PEAK_ROUNDS)}
    with torch.inference_mode():
        timings = interleave(runs, rounds=ROUNDS, block_ms=1.0)
    # Both in the same round: the clock of a core moves with what its neighbours do.
    scale = work["operations"] / operations
    ratio = timings.speedup("kernel", over="peak")
    row = {
        "kernel": name,
        **work,
        "milliseconds": timings.median("kernel"),
        "gflops": work["operations"] / timings.median("kernel") / 1e6,
        "peak_gflops": operations / timings.median("peak") / 1e6,
        "share": ratio.median * scale,
        "share_low": ratio.low * scale,
        "share_high": ratio.high * scale,
        "gigabytes_per_second": work["bytes"] / timings.median("kernel") / 1e6,
        "operations_per_byte": work["operations"] / work["bytes"],
    }
    print(
        f"{name:32} {work['sparsity']:.0%} {row['milliseconds']:.3f} ms {row['gflops']:6.1f} GFLOPS"
        f" {row['share']:.0%} ({row['share_low']:.0%}-{row['share_high']:.0%}) of peak,"
        f" {row['gigabytes_per_second']:.1f} GB/s",
        flush=True,
    )
    return row


def linear_rows(library: Library) -> list[Any]:
    rows = []
    for width, out in LINEAR:
        for sparsity in LEVELS:
            layer = nn.Linear(width, out)
            cut(layer, sparsity)
            sparse = SparseLinear.from_linear(layer)
            for batch in (1, 8, 64):
                x = torch.randn(width, batch).t()
                work = {
                    "sparsity": sparsity,
                    "batch": batch,
                    "operations": 2 * sparse.nonzeros * batch,
                    "bytes": sparse.weight_bytes + 4 * batch * (width + out),
                }
                layouts: tuple[OutputLayout, ...] = ("columns", "rows")
                for layout in layouts:
                    sparse.output_layout = layout
                    given = x if layout == "columns" else x.contiguous()
                    name = f"linear {width}-{out} batch {batch} {layout}"
                    rows.append(measure(library, name, partial(sparse, given), work))
    return rows


def conv_rows(library: Library) -> list[Any]:
    rows = []
    for size, width, image in CONVOLUTIONS:
        for sparsity in LEVELS:
            layer = nn.Conv2d(width, width, size, padding=size // 2)
            cut(layer, sparsity)
            sparse = SparseConv2d.from_conv(layer)
            for batch in (1, 16):
                x = torch.randn(batch, width, image, image)
                work = {
                    "sparsity": sparsity,
                    "batch": batch,
                    "operations": 2 * sparse.nonzeros * batch * image * image,
                    "bytes": sparse.weight_bytes + 8 * x.numel(),
                }
                name = f"conv {size}x{size} {width}@{image} batch {batch}"
                rows.append(measure(library, name, partial(sparse, x), work))
    return rows


def scaling() -> list[Any]:
    """Time two threads against one; wide batches are shared out by tiles or by blocks."""
    wide, image = nn.Linear(1024, 4096), nn.Conv2d(256, 256, 3, padding=1)
    cut(wide, 0.9)
    cut(image, 0.9)
    cases = [
        (f"linear 1024-4096 batch {n}", SparseLinear.from_linear(wide), torch.randn(n, 1024))
        for n in (1, 8, 64, 256)
    ]
    images = torch.randn(16, 256, 14, 14)
    rows = []
    for name, layer, x in [
        *cases,
        ("conv 3x3 256@14 batch 16", SparseConv2d.from_conv(image), images),
    ]:

        def run(threads: int, layer: nn.Module = layer, x: torch.Tensor = x) -> None:
            torch.set_num_threads(threads)
            layer(x)

        with torch.inference_mode():
            # Long turns: a thread that wakes may take milliseconds to find the other core.
            runs = {"one": partial(run, 1), "two": partial(run, 2)}
            timings = interleave(runs, rounds=ROUNDS, block_ms=50.0)
        gain = timings.speedup("two", over="one")
        rows.append(
            {"kernel": name, "two_threads": gain.median, "low": gain.low, "high": gain.high}
        )
        print(
            f"{name}: two threads {gain.median:.2f}x ({gain.low:.2f}-{gain.high:.2f})", flush=True
        )
    torch.set_num_threads(1)
    return rows


def main() -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    library = kernels()
    if library is None:
        raise SystemExit(f"no kernels: {kernel_status().reason}")
    rows = [*linear_rows(library), *conv_rows(library)]
    data = {
        "machine": machine(),
        "variant": library.variant,
        "rows": rows,
        "threads": scaling(),
    }
    RESULT.write_text(json.dumps(data, indent=1) + "\n")
    print("written", RESULT.name)


if __name__ == "__main__":
    main()
