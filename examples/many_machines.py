"""Train a sparse network on as many ranks and machines as torchrun starts, and go on after a crash.

    torchrun --nproc-per-node 2 examples/many_machines.py --out runs/shared
    torchrun --nproc-per-node 2 examples/many_machines.py --out runs/shared --whole     # DDP

Weights, latents and optimizer state are sharded by FSDP2, or with --whole copied to every rank. Run
the same line again after a crash, on any number of ranks, and it goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import mirrormask as mm
from mirrormask.study.data import load


def network() -> nn.Sequential:
    """Return the network at its start, the same on every rank."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(),
        nn.Linear(128, 10),
    )  # fmt: skip


def main() -> None:
    """Train, with checkpoints, and leave a packed model in the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder that all machines see")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=192, help="images of all ranks in a step")
    parser.add_argument("--sparsity", type=float, default=0.95)
    parser.add_argument("--whole", action="store_true", help="DDP in place of FSDP2")
    options = parser.parse_args()

    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    data = load("fashion-mnist-10k")

    # 1. Wrap or shard the model, 2. build the optimizer, 3. sparsify.
    model: nn.Module = network()
    if options.whole:
        model = DistributedDataParallel(model)
    else:
        for layer in model.children():
            if isinstance(layer, nn.Linear):
                fully_shard(layer)
        fully_shard(model)
    optimizer = mm.sparsify(
        torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0),
        model,
        sparsity=options.sparsity,
        steps=options.steps,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)

    found = mm.load_checkpoint(options.out, model, optimizer)
    if found is not None:
        schedule.load_state_dict(found["schedule"])
        say(rank, f"going on from step {optimizer.steps_done} on {world} ranks")

    for step in range(optimizer.steps_done, options.steps):
        # All ranks draw the same batch, and each takes its share.
        generator = torch.Generator().manual_seed(step)
        chosen = torch.randint(len(data.train.labels), (options.batch,), generator=generator)
        own = chosen[rank::world]
        optimizer.zero_grad()
        loss = cross_entropy(model(data.train.images[own]), data.train.labels[own])
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 50 == 0:
            mm.save_checkpoint(options.out, model, optimizer, {"schedule": schedule.state_dict()})
            say(rank, f"step {step + 1}: loss {loss.item():.3f} on rank 0")

    report = optimizer.finalize()
    say(rank, str(report))
    finished = get_model_state_dict(
        model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    if rank == 0:  # a plain model again, on one rank
        plain = network()
        plain.load_state_dict(finished)
        with torch.no_grad():
            right = plain(data.test.images).argmax(1) == data.test.labels
        packed = mm.save(plain, options.out / "model.packed.safetensors")
        say(rank, f"test accuracy {right.float().mean():.4f}, {packed.file_bytes} bytes packed")
    dist.destroy_process_group()


def say(rank: int, text: str) -> None:
    """Print on the first rank alone."""
    if rank == 0:
        print(text, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
