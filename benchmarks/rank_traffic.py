"""Count what ranks send beyond dense training, as ranks, layers and weights grow.

Every collective operation of FSDP2 and of mirrormask is given tensors; their bytes are added up,
step by step, of a dense run and of one that is made sparse, on the first rank. There is no clock.

    python benchmarks/rank_traffic.py --out benchmarks/results/rank_traffic.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mirrormask as mm
from mirrormask.geometry import Factors, ScaledMirror
from mirrormask.masking import GradualCubic
from mirrormask.pressure import SeekTarget

RANKS = (2, 3, 4)
SIZES = ((2, 128), (8, 128), (8, 512), (32, 128))
"""Layers and their width."""

STEPS = 8
# Measurements in steps 1 and 3, one cut after step 4.
CUT = GradualCubic(begin=0.1, end=0.5, cuts=1)
RECIPES = {
    "one_threshold": mm.Recipe(
        geometry=Factors(), pressure=SeekTarget(until=0.5, intervals=2), masking=CUT
    ),
    # As the default method cuts.
    "and_one_a_layer": mm.Recipe(
        geometry=ScaledMirror(),
        pressure=SeekTarget(until=0.5, intervals=2),
        masking=replace(CUT, score="saliency", floor=0.1),
    ),
}


class Traffic(TorchDispatchMode):
    """Adds up the bytes, and the number, of collective operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        self.calls = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Count, and go on."""
        if func.namespace == "c10d":
            tensors = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            self.calls += 1
        return func(*args, **(kwargs or {}))


def steps_of(layers: int, width: int, recipe: mm.Recipe | None) -> list[tuple[int, int]]:
    """Return bytes and calls of each step of a run."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))
    for layer in model:
        fully_shard(layer)
    fully_shard(model)
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    if recipe is not None:
        optimizer = mm.sparsify(optimizer, model, sparsity=0.9, steps=STEPS, method=recipe)
    seen = []
    for step in range(STEPS):
        inputs = torch.randn(4, width, generator=torch.Generator().manual_seed(step))
        with Traffic() as traffic:
            optimizer.zero_grad()
            torch.autograd.backward(model(inputs).square().mean())
            optimizer.step()
        seen.append((traffic.bytes, traffic.calls))
    return seen


def measure(rank: int, world: int, folder: str) -> None:
    """Run on one rank; the first one writes what it counted."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet-{world}", rank=rank, world_size=world
    )
    rows = []
    for layers, width in SIZES:
        dense = steps_of(layers, width, None)
        row: dict[str, Any] = {"ranks": world, "layers": layers, "width": width}
        row |= {"weights": layers * width * width, "dense_step_bytes": dense[-1][0]}
        for name, recipe in RECIPES.items():
            sparse = steps_of(layers, width, recipe)
            more = [(s[0] - d[0], s[1] - d[1]) for s, d in zip(sparse, dense, strict=True)]
            row[name] = {
                "more_in_steps_without_either": sorted({more[step] for step in (1, 4, 5, 6, 7)}),
                "more_for_a_measurement": more[2],
                "more_for_a_cut": more[3],
            }
        rows.append(row)
    if rank == 0:
        Path(f"{folder}/{world}.json").write_text(json.dumps(rows), encoding="utf-8")
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for world in RANKS:
            context = multiprocessing.get_context("spawn")
            ranks = [context.Process(target=measure, args=(n, world, folder)) for n in range(world)]
            for process in ranks:
                process.start()
            for process in ranks:
                process.join()
            rows += json.loads(Path(f"{folder}/{world}.json").read_text(encoding="utf-8"))
    for row in rows:
        print(row)
    result = {"script": "benchmarks/rank_traffic.py", "torch": torch.__version__, "rows": rows}
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
