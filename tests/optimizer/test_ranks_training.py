"""Two and three ranks, whole or sharded, train as one process does with the same global batch."""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import mirrormask as mm
from mirrormask.geometry import Euclidean, Factors
from mirrormask.masking import GradualCubic, ProjectAndFreeze
from mirrormask.optimizer import feedback
from mirrormask.pressure import Constant, SeekTarget, SparsityController
from mirrormask.ranks import checksum

STEPS = 12

SGD = "sgd"
ADAMW = "adamw"

ON_SHARDS: dict[str, tuple[str | mm.Recipe, str]] = {
    "pilot": ("pilot", SGD),
    "pilot, adamw": ("pilot", ADAMW),
    "pilot-factors": ("pilot-factors", SGD),
    "pilot-mirror": ("pilot-mirror", ADAMW),
    "pilot-paper": ("pilot-paper", ADAMW),
    "uniform": (mm.Recipe(masking=GradualCubic(scope="uniform", cuts=5)), SGD),
    "erk, by decay": (
        mm.Recipe(
            geometry=Factors(),
            pressure=SeekTarget(application="decay"),
            masking=ProjectAndFreeze(scope="erk"),
        ),
        SGD,
    ),
    "proximal": (
        mm.Recipe(
            geometry=Euclidean(),
            pressure=Constant(strength=0.05, application="proximal"),
            masking=ProjectAndFreeze(at=0.5),
        ),
        SGD,
    ),
    "steered": (
        mm.Recipe(
            pressure=SparsityController(strength=0.01, every=3, application="proximal"),
            masking=GradualCubic(cuts=3),
        ),
        ADAMW,
    ),
    "random": ("random", SGD),
    "rigl": ("rigl", SGD),
    # Not AdamW: its first step is one size for all that has just grown, and the last bit of a sum
    # over ranks would decide which is dropped.
    "set": ("set", SGD),
    "acdc": ("pilot-acdc", SGD),
    "rewinding": ("pilot-wr", SGD),
    "lrr": ("lrr", ADAMW),
    "powerprop": ("powerprop", SGD),
    "gates": ("cs", SGD),
}
"""By name, a method and an optimizer: every masking, scope and pressure, on several geometries."""

ON_REPLICAS = {
    **{name: ON_SHARDS[name] for name in ("pilot, adamw", "rigl", "rewinding")},
    "deep factors": ("dwf-3", SGD),
    "bregman": ("linbreg", SGD),
    "blocks": ("gmp-block", SGD),
    "thresholds": ("str", ADAMW),
}


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(12, 12, generator=generator)
    return inputs, inputs.roll(1, 1)[:, :2].abs()


def build(kind: str, method: str | mm.Recipe, base: str) -> tuple[nn.Module, mm.SparseOptimizer]:
    """12-21-2, the same start everywhere: no two ranks have as many rows, and a third none of 2."""
    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(nn.Linear(12, 21), nn.Tanh(), nn.Linear(21, 2))
    if kind in ("hybrid", "columns"):
        shard_on_a_mesh(model, kind)
    elif kind == "shards":
        from torch.distributed.fsdp import fully_shard

        for layer in (model[0], model[2]):
            fully_shard(layer)
        fully_shard(model)
    elif kind == "replicas":
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = (
        torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        if base == SGD
        else torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    )
    # Ranks that seed torch apart, for their data, still draw one mask.
    torch.manual_seed(100 + (dist.get_rank() if dist.is_initialized() else 0))
    return model, mm.sparsify(optimizer, model, sparsity=0.8, steps=STEPS, method=method)


def shard_on_a_mesh(model: nn.Module, kind: str) -> None:
    """Shard over pairs of ranks that are copies of each other, or along the inputs of weights."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Shard

    if kind == "hybrid":
        fully_shard(model, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("copy", "part")))
        return
    world = dist.get_world_size()
    fully_shard(
        model,
        # Columns have to be shared out evenly.
        shard_placement_fn=lambda p: Shard(1 if p.ndim == 2 and p.shape[1] % world == 0 else 0),
    )


def train(kind: str, method: str | mm.Recipe, base: str, rank: int, world: int) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feedback, "SAMPLE", 60)  # of 294 weights, so that samples skip some
        return run(kind, method, base, rank, world)


def run(kind: str, method: str | mm.Recipe, base: str, rank: int, world: int) -> dict[str, Any]:
    model, optimizer = build(kind, method, base)
    losses, pressure = [], []
    for step in range(STEPS):
        inputs, wanted = (part[rank::world] for part in batch(step))
        optimizer.zero_grad()
        loss = (model(inputs) - wanted).square().mean()
        loss.backward()
        optimizer.step()
        pressure.append(optimizer.alpha)
        mean = loss.detach() / world
        if world > 1:
            dist.all_reduce(mean)
        losses.append(float(mean))
        if step % 2:  # each rank sees its own ups and downs, and what counts is the mean
            swing = (0.9, -0.9)[step // 2 % 2] * (rank - (world - 1) / 2)
            optimizer.observe(0.1 * step + swing)
    scales = optimizer.scales()
    with torch.no_grad():  # FSDP2 keeps what it gathers here until somebody writes
        model(batch(0)[0])
        report = optimizer.finalize()
        outputs = model(batch(0)[0])
    weights = dict(model.named_parameters())
    return {
        "losses": losses,
        "pressure": pressure,
        "scales": list(scales.values()),
        "report": report,
        "outputs": outputs,
        "checksum": int(checksum([p.detach() != 0 for p in weights.values() if p.ndim == 2])),
        "weights": [
            (p.full_tensor() if hasattr(p, "full_tensor") else p).detach() for p in weights.values()
        ],
    }


def on_rank(rank: int, world: int) -> dict[str, dict[str, Any]]:
    if world == 4:
        runs = {
            f"{kind}: {name}": (kind, *ON_SHARDS[name])
            for kind in ("hybrid", "columns")
            for name in ("pilot", "rigl")
        }
    else:
        runs = {f"shards: {name}": ("shards", *run) for name, run in ON_SHARDS.items()}
        runs |= {f"replicas: {name}": ("replicas", *run) for name, run in ON_REPLICAS.items()}
    if world == 2:  # what differs from three ranks is few lines: every other run will do
        runs = dict(list(runs.items())[::2])
    return {name: train(*how, rank, world) for name, how in runs.items()}


@pytest.mark.parametrize("world", [2, 3, 4])
def test_ranks_train_as_one_process(run_ranks, world: int) -> None:
    ranks = run_ranks(world, on_rank)
    every = {**ON_SHARDS, **ON_REPLICAS}
    names = {name.partition(": ")[2] for name in ranks[0]}
    alone = {name: train("alone", *every[name], 0, 1) for name in names}
    for name in ranks[0]:
        wanted = alone[name.partition(": ")[2]]
        for got in (rank[name] for rank in ranks):
            assert got["report"].zeros == got["report"].asked_zeros == 235, name
            assert got["report"] == wanted["report"], name
            assert got["checksum"] == wanted["checksum"], name
            assert got["losses"] == pytest.approx(wanted["losses"], abs=1e-5), name
            assert got["pressure"] == pytest.approx(wanted["pressure"], rel=1e-3), name
            assert got["scales"] == pytest.approx(wanted["scales"], rel=1e-3, nan_ok=True), name
            torch.testing.assert_close(got["outputs"], wanted["outputs"], rtol=1e-4, atol=1e-5)
            for one, two in zip(got["weights"], wanted["weights"], strict=True):
                torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def on_host(rank: int, world: int) -> dict[str, Any]:
    return train("shards", *ON_SHARDS["pilot"], rank, world)


def test_two_hosts_with_addresses_of_their_own_train_as_one_process(run_ranks) -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "two_hosts.py"))
    try:
        with script["two_hosts"]() as hosts:
            before = [host.bytes_sent() for host in hosts]
            runs = run_ranks(2, on_host, hosts=[vars(host) for host in hosts])
            sent = [host.bytes_sent() for host in hosts]
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    # A step reduces and gathers the weights, half of which go out.
    assert all(b - a > STEPS * 4 * 252 for a, b in zip(before, sent, strict=True))
    wanted = train("alone", *ON_SHARDS["pilot"], 0, 1)
    for got in runs:
        assert got["report"] == wanted["report"]
        assert got["checksum"] == wanted["checksum"]
        assert got["losses"] == pytest.approx(wanted["losses"], abs=1e-5)
