"""Ranks that differ, and engines that cannot carry latents, are refused early and on every rank."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

import mirrormask as mm
from mirrormask.errors import LifecycleError, NonFiniteError, OptimizerError, RankError
from mirrormask.geometry import Mirror
from mirrormask.masking import GradualCubic, Masking

DDP = nn.parallel.DistributedDataParallel


def net(width: int = 6, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))


def sharded() -> nn.Sequential:
    from torch.distributed.fsdp import fully_shard

    model = net()
    fully_shard(model)
    return model


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def wrap(model: nn.Module, base: torch.optim.Optimizer | None = None, **options: Any) -> Any:
    wanted = {"sparsity": 0.5, "steps": 4, "method": "gmp"} | options
    return mm.sparsify(base or sgd(model), model, **wanted)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 4)).square().mean().backward()
    optimizer.step()


# Ranks that differ.


def sparsity(rank: int) -> None:
    wrap(net(), sparsity=(0.5, 0.6)[rank])


def steps(rank: int) -> None:
    wrap(net(), steps=(4, 5)[rank])


def method(rank: int) -> None:
    wrap(net(), method=("pilot", "gmp")[rank])


def knob(rank: int) -> None:
    wrap(net(), method=mm.Recipe(masking=GradualCubic(end=(0.5, 0.6)[rank])))


def model(rank: int) -> None:
    wrap(net(width=(6, 7)[rank]))


def targets(rank: int) -> None:
    wrap(net(), exclude=("0.*", "2.*")[rank])


def seed(rank: int) -> None:
    wrap(net(), seed=rank)


def rate(rank: int) -> None:
    deep = net()
    wrap(deep, torch.optim.SGD(deep.parameters(), lr=(0.1, 0.2)[rank]))


def start(rank: int) -> None:
    wrap(net(seed=rank))


def unknown(rank: int) -> None:
    wrap(net(), method=("gmp", "gmpp")[rank])


def nan(rank: int) -> None:
    broken = net()
    if rank == 1:
        with torch.no_grad():
            broken[0].weight[0, 0] = torch.nan
    wrap(broken)


def drift(rank: int) -> None:
    whole = DDP(net())
    optimizer = wrap(whole, method=mm.Recipe(masking=GradualCubic(begin=0, end=1, cuts=2)))
    step(whole, optimizer)
    if rank == 1:
        with torch.no_grad():
            whole.module[0].weight.mul_(-3.0).add_(0.1)
    before = copy.deepcopy(whole.module.state_dict())
    try:
        step(whole, optimizer)
    finally:
        assert optimizer.steps_done == 2
        assert all((value != 0).any() for value in before.values())
        assert sum(int((p == 0).sum()) for p in whole.module.parameters()) == 0


def late_nan(rank: int) -> None:
    shards = sharded()
    optimizer = wrap(shards)
    step(shards, optimizer)
    if rank == 1:
        with torch.no_grad():
            shards[0].weight.to_local()[0, 0] = torch.nan
    optimizer.finalize()


# Engines.


def fsdp1(rank: int) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    flat = FullyShardedDataParallel(net(), device_id=torch.device("cpu"), use_orig_params=True)
    wrap(flat)


def shard_later(rank: int) -> None:
    from torch.distributed.fsdp import fully_shard

    late = net()
    optimizer = wrap(late)
    fully_shard(late)
    step(late, optimizer)


def replace(rank: int) -> None:
    other = net()
    optimizer = wrap(other)
    other[0].weight = nn.Parameter(torch.randn(6, 4))
    step(other, optimizer)


def replace_shard(rank: int) -> None:
    from torch.distributed.tensor import Replicate

    shards = sharded()
    optimizer = wrap(shards)
    step(shards, optimizer)
    whole = shards[0].weight.detach().redistribute(placements=[Replicate()])
    shards[0]._parameters["weight"] = nn.Parameter(whole)
    optimizer.step()


def in_backward(rank: int) -> None:
    from torch.distributed.optim import _apply_optimizer_in_backward

    fused = net()
    _apply_optimizer_in_backward(torch.optim.SGD, fused.parameters(), {"lr": 0.1})
    wrap(fused)


def in_hook(rank: int) -> None:
    fused = net()
    each = {p: torch.optim.SGD([p], lr=0.1) for p in fused.parameters()}

    def hook(parameter: torch.Tensor) -> None:
        each[parameter].step()

    for parameter in fused.parameters():
        parameter.register_post_accumulate_grad_hook(hook)
    wrap(fused)


def in_bucket(rank: int) -> None:
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
    from torch.distributed.algorithms.ddp_comm_hooks import optimizer_overlap_hooks as overlap
    from torch.distributed.optim.utils import as_functional_optim

    fused = DDP(net())
    inside = overlap._OptimizerHookState(as_functional_optim(torch.optim.SGD, lr=0.1))
    hook = overlap._hook_then_optimizer(default_hooks.allreduce_hook, inside)
    fused.register_comm_hook(None, hook)
    wrap(fused)


def zero(rank: int) -> None:
    from torch.distributed.optim import ZeroRedundancyOptimizer

    whole = DDP(net())
    wrap(whole, ZeroRedundancyOptimizer(whole.parameters(), torch.optim.SGD, lr=0.1))


# Shards.


def deep(rank: int) -> None:
    wrap(sharded(), method="dwf-3")


def noise(rank: int) -> None:
    wrap(sharded(), method=mm.Recipe(geometry=Mirror(noise="second-moment")))


def blocks(rank: int) -> None:
    wrap(sharded(), method="gmp-block")


class Own(Masking):
    """Chooses by itself."""

    def cut_after(self, step: int, steps: int, sparsity: float) -> float | None:
        return None

    def choose(self, candidates: Any, sparsity: float) -> list[torch.Tensor]:
        return []


def own_masking(rank: int) -> None:
    wrap(sharded(), method=mm.Recipe(masking=Own()))


def adafactor(rank: int) -> None:
    shards = sharded()
    wrap(shards, torch.optim.Adafactor(shards.parameters()))


def alone_in_a_group(rank: int) -> None:
    groups = [dist.new_group([0]), dist.new_group([1])]
    wrap(sharded(), process_group=groups[rank])


def partial_sums(rank: int) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Partial

    odd = net()
    mesh = init_device_mesh("cpu", (2,))
    odd[0].weight = nn.Parameter(DTensor.from_local(torch.ones(6, 4), mesh, [Partial()]))
    wrap(odd)


SAME = "start every rank with the same model, method and numbers"
EXPECTED: list[tuple[Callable[[int], None], type[Exception], str]] = [
    (sparsity, RankError, rf"Ranks differ in sparsity: rank 0 has 0.5, rank 1 has 0.6: {SAME}"),
    (steps, RankError, rf"Ranks differ in steps: rank 0 has 4, rank 1 has 5: {SAME}"),
    (
        method,
        RankError,
        "Ranks differ in the recipe: rank 0 has Recipe.*Mirror.*, rank 1 has Recipe.*Euclid",
    ),
    (knob, RankError, "Ranks differ in the recipe: .*end=0.5.* rank 1 has .*end=0.6"),
    (model, RankError, r"Ranks differ in the model: rank 0 has 0.weight: \(6, 4\) torch.float32 "),
    (targets, RankError, "Ranks differ in the weights to make sparse: rank 0 has 2.weight, rank 1"),
    (seed, RankError, "Ranks differ in seed: rank 0 has 0, rank 1 has 1"),
    (rate, RankError, "Ranks differ in the optimizer: rank 0 has lr=0.1, rank 1 has lr=0.2"),
    (start, RankError, "the values of the first weights .wrap or load the model before sparsify."),
    (unknown, RankError, "Rank 1 refused, and with it all others: method='gmpp' is unknown"),
    (nan, RankError, "Rank 1 refused, and with it all others: Weight '0.weight' holds NaN"),
    (drift, RankError, "Ranks differ in the weights that they would keep: their weights are no"),
    (late_nan, RankError, "Rank 1 refused, and with it all others: Weight '0.weight' holds NaN"),
    (fsdp1, OptimizerError, "FSDP1. flattens weights .*fully_shard .FSDP2. instead"),
    (shard_later, LifecycleError, "'0.weight' was replaced or sharded anew after sparsify"),
    (replace, LifecycleError, "'0.weight' was replaced or sharded anew after sparsify"),
    (replace_shard, LifecycleError, "'0.weight' was replaced or sharded anew after sparsify"),
    (in_backward, OptimizerError, "'0.weight' is stepped by an optimizer inside the backward"),
    (in_hook, OptimizerError, "'0.weight' is stepped by an optimizer inside the backward"),
    (in_bucket, OptimizerError, "DistributedDataParallel steps an optimizer inside the backward"),
    (zero, OptimizerError, "ZeroRedundancyOptimizer steps another optimizer on groups of its own"),
    (deep, RankError, "The geometry Depth.* starts or moves weights by what others .* '0.weight'"),
    (noise, RankError, "Mirror.*noise='second-moment'.* starts or moves weights by what others"),
    (blocks, RankError, "The pattern Block.* chooses groups of weights, which shards may cut"),
    (own_masking, RankError, "Own chooses in a way of its own, made for whole tensors"),
    (adafactor, RankError, "The optimizer Adafactor looks across whole tensors"),
    (alone_in_a_group, RankError, r"sharded over ranks \[0, 1\], and the run over \[\d\]: give"),
    (partial_sums, RankError, "'0.weight' cannot be made sparse: it is placed as Partial"),
]


def refused(rank: int, world: int) -> dict[str, tuple[str, str]]:
    seen = {}
    for attempt, _, _ in EXPECTED:
        try:
            attempt(rank)
        except mm.errors.MirrormaskError as error:
            seen[attempt.__name__] = (type(error).__name__, str(error))
        dist.barrier()
    return seen


def test_every_rank_says_why(run_ranks) -> None:
    answers = run_ranks(2, refused)
    for attempt, kind, message in EXPECTED:
        for rank, seen in enumerate(answers):
            name, text = seen.get(attempt.__name__, ("nothing", ""))
            own = rank == 1 and message.startswith("Rank 1 refused")
            if own:  # its own error, as if it were alone
                assert name in ("ArgumentError", "NonFiniteError")
                assert text in answers[0][attempt.__name__][1]
                continue
            assert name == kind.__name__, (attempt.__name__, name, text)
            with pytest.raises(RuntimeError, match=message):
                raise RuntimeError(text)


def test_one_process_has_no_one_to_ask() -> None:
    replaced = net()
    optimizer = wrap(replaced)
    replaced[0].weight = nn.Parameter(torch.randn(6, 4))
    before = copy.deepcopy(replaced.state_dict())
    with pytest.raises(LifecycleError, match="move, wrap and shard the model first"):
        step(replaced, optimizer)
    assert optimizer.steps_done == 0
    assert all(torch.equal(before[key], value) for key, value in replaced.state_dict().items())
    with pytest.raises(NonFiniteError):
        nan(1)
