"""The example for many machines, as torchrun would start it: sharded, then whole from there."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import sys
from pathlib import Path

import torch
import torch.distributed as dist

import mirrormask as mm

EXAMPLE = Path(__file__).parents[2] / "examples" / "many_machines.py"


def on_rank(rank: int, world: int, out: str) -> list[str]:
    dist.destroy_process_group()  # the example has its own
    texts = []
    for port, more in (("shards", []), ("whole", ["--whole"])):
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world)}
        store = dist.FileStore(f"{out}/{port}", world)
        begin = dist.init_process_group

        def meet(backend: str, store=store, begin=begin) -> None:
            begin(backend, store=store, rank=rank, world_size=world)

        dist.init_process_group = meet
        sys.argv = [str(EXAMPLE), "--out", f"{out}/run", "--steps", "50", *more]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            runpy.run_path(str(EXAMPLE), run_name="__main__")
        dist.init_process_group = begin
        texts.append(printed.getvalue())
    return texts


def test_the_example_trains_sharded_and_goes_on_whole(run_ranks, tmp_path: Path) -> None:
    (sharded, whole), (silent, _) = run_ranks(2, on_rank, str(tmp_path))
    assert "step 50: loss" in sharded
    assert "asked 95 % = 223,014 zeros: exact" in sharded
    assert silent == ""
    assert whole.startswith("going on from step 50 on 2 ranks")
    # The same weights, sharded and whole, are cut and packed to the same network.
    assert whole.splitlines()[1:] == sharded.splitlines()[1:]
    packed = mm.load(tmp_path / "run" / "model.packed.safetensors")
    assert sum(int((w == 0).sum()) for w in packed.values() if w.ndim == 2) == 223_014
    assert all(isinstance(weight, torch.Tensor) for weight in packed.values())
