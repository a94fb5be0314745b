"""What goes over the network is what dense training sends, but for counts at cuts; no rank ever
holds a sharded weight whole.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mirrormask as mm
from mirrormask.masking import GradualCubic
from mirrormask.pressure import SeekTarget

STEPS, WIDTH = 8, 160
SHARD = WIDTH * WIDTH // 2
COUNTS = 256 * 8  # bytes of one round of a selection


class Traffic(TorchDispatchMode):
    """Adds up the bytes that collective operations are given, by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            size = sum(
                leaf.numel() * leaf.element_size()
                for leaf in tree_leaves(args)
                if isinstance(leaf, Tensor)
            )
            self.bytes[func._schema.name] += size
        return func(*args, **(kwargs or {}))


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation makes, on this rank alone."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch.distributed.tensor import DTensor

        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # it comes again for the part that is here
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            # DTensor tries shapes out on tensors without memory.
            if isinstance(leaf, Tensor) and not (
                isinstance(leaf, DTensor | FakeTensor) or leaf.is_meta
            ):
                self.elements = max(self.elements, leaf.numel())
        return made


def build(kind: str) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    layers = [nn.Linear(WIDTH, WIDTH, bias=False), nn.Tanh(), nn.Linear(WIDTH, WIDTH, bias=False)]
    model: nn.Module = nn.Sequential(*layers)
    if kind == "replicas":
        return nn.parallel.DistributedDataParallel(model)
    for layer in (layers[0], layers[2]):
        fully_shard(layer)
    return fully_shard(model)


def recipe(method: str) -> str | mm.Recipe:
    if method != "pressed":
        return method
    # One cut, halfway, and two measurements of the pressure.
    return mm.Recipe(
        pressure=SeekTarget(until=0.5, intervals=2),
        masking=GradualCubic(begin=0.1, end=0.5, cuts=1),
    )


def traffic(kind: str, method: str | None) -> list[Counter[str]]:
    """Return the bytes of each step of a run."""
    model = build(kind)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    if method is not None:
        optimizer = mm.sparsify(
            optimizer, model, sparsity=0.9, steps=STEPS, method=recipe(method), seed=0
        )
    seen = []
    for step in range(STEPS):
        inputs = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(step))
        with Traffic() as counted:
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
        seen.append(counted.bytes)
    return seen


def largest(rank: int, folder: str, method: str) -> dict[str, int]:
    """Return the largest tensor of each stage of a run, forward and backward left out."""
    model = build("shards")
    base = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    sizes = {}
    with Largest() as seen:
        optimizer = mm.sparsify(base, model, sparsity=0.9, steps=STEPS, method=method, seed=0)
    sizes["sparsify"], sizes["step"] = seen.elements, 0
    for step in range(STEPS):
        inputs = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        with Largest() as seen:
            optimizer.step()
        sizes["step"] = max(sizes["step"], seen.elements)
        if step == 5:
            with Largest() as seen:
                mm.save_checkpoint(folder, model, optimizer)
            sizes["save"] = seen.elements
            with Largest() as seen:
                mm.load_checkpoint(folder, model, optimizer)
            sizes["load"] = seen.elements
    with Largest() as seen:
        assert optimizer.finalize().zeros == round(0.9 * 2 * WIDTH**2)
    sizes["finalize"] = seen.elements
    with Largest() as seen:
        next(model.parameters()).full_tensor()
    sizes["a full copy"] = seen.elements
    return sizes


def on_rank(rank: int, world: int, folder: str) -> dict[str, Any]:
    return {
        "traffic": {
            (kind, method): traffic(kind, method)
            for kind in ("replicas", "shards")
            for method in (None, "pressed", "pilot", "rigl")
        },
        "largest": {m: largest(rank, f"{folder}/{m}", m) for m in ("pilot", "gmp", "set")},
    }


def test_traffic_is_that_of_dense_training_and_weights_stay_where_they_are(
    run_ranks, tmp_path
) -> None:
    answers = run_ranks(2, on_rank, str(tmp_path))
    for rank in answers:
        for kind in ("replicas", "shards"):
            dense = rank["traffic"][kind, None]
            assert sum(dense[0].values()) > WIDTH * WIDTH * 4
            pressed = [
                sparse - plain
                for sparse, plain in zip(rank["traffic"][kind, "pressed"], dense, strict=True)
            ]
            # Steps without a cut or a measurement send not one byte more.
            extra = [sum(more.values()) for more in pressed]
            cut = 2 * 8  # two numbers, the least and the largest checksum
            if kind == "replicas":
                assert extra == [0, 0, 0, cut, 0, 0, 0, 0]
            else:
                assert extra[0] == extra[2] == 4 * COUNTS
                assert [extra[step] for step in (1, 4, 5, 6, 7)] == [0] * 5
                # Threshold, ties, sum of checksums and the checksums' comparison, idle weights.
                assert 4 * COUNTS < extra[3] <= 4 * COUNTS + 128
            for method in ("pilot", "rigl"):
                for sparse, plain in zip(rank["traffic"][kind, method], dense, strict=True):
                    assert not plain - sparse, method
                    # Counts alone: a measurement, thresholds of all weights and of both layers,
                    # and for each threshold the ties at it. One weight would be twice as much.
                    counted = 4 * (4 * COUNTS) + 3 * (3 * COUNTS) + 256
                    assert sum((sparse - plain).values()) <= counted < WIDTH * WIDTH * 4, method
        for method, sizes in rank["largest"].items():
            whole = sizes.pop("a full copy")
            assert whole >= WIDTH * WIDTH, "what is looked at would not see a full copy"
            for stage, elements in sizes.items():
                assert elements <= SHARD, (method, stage, elements)
                assert elements >= SHARD // 2, (method, stage)
