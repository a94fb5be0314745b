"""What engines of many machines do to models and optimizers, seen through or refused early."""

from __future__ import annotations

import functools
import sys
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from mirrormask.errors import OptimizerError
from mirrormask.optimizer.latent_weight import LatentWeight


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside compilation and DistributedDataParallel, which only add to names.

    Raises:
        OptimizerError: If the model is wrapped by FSDP1, or its gradients are used up by an
            optimizer inside the backward pass.
    """
    model = getattr(model, "_orig_mod", model)
    ddp = _known("torch.nn.parallel", "DistributedDataParallel")
    if ddp is not None and isinstance(model, ddp):
        for hook in getattr(model, "_comm_hooks", ()):
            if any(_holds_optimizer(part) for part in hook):
                raise OptimizerError(
                    "DistributedDataParallel steps an optimizer inside the backward pass "
                    "(a communication hook holds one), where no latents can be moved: leave "
                    "that hook out and call step() after backward()."
                )
        model = getattr(model.module, "_orig_mod", model.module)
    fsdp1 = _known("torch.distributed.fsdp", "FullyShardedDataParallel")
    if fsdp1 is not None and any(isinstance(module, fsdp1) for module in model.modules()):
        raise OptimizerError(
            "FullyShardedDataParallel (FSDP1) flattens weights into pieces that belong to no "
            "layer: shard the model with torch.distributed.fsdp.fully_shard (FSDP2) instead."
        )
    return model


def check_engine(base: Optimizer, parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Refuse optimizers that step elsewhere than in their own ``step``, on their own groups.

    Raises:
        OptimizerError: If the optimizer hands its groups to another one, or steps within backward.
    """
    for name in ("ZeroRedundancyOptimizer", "PostLocalSGDOptimizer", "DistributedOptimizer"):
        kind = _known("torch.distributed.optim", name)
        if kind is not None and isinstance(base, kind):
            raise OptimizerError(
                f"{name} steps another optimizer on groups of its own, into which no latents can "
                "be put: wrap a plain torch.optim optimizer, and to share its memory out over "
                "ranks shard the model with torch.distributed.fsdp.fully_shard."
            )
    if callable(getattr(base, "fused_backward", None)):  # LOMO and its like
        raise OptimizerError(
            f"{type(base).__name__} steps inside the backward pass, where no latents can be moved: "
            "use a plain optimizer, such as torch.optim.AdamW, and call step() after backward()."
        )
    for name, parameter in parameters:
        hooks = getattr(parameter, "_post_accumulate_grad_hooks", None) or {}
        if hasattr(parameter, "_in_backward_optimizers") or any(
            _holds_optimizer(hook) for hook in hooks.values()
        ):
            raise OptimizerError(
                f"Weight {name!r} is stepped by an optimizer inside the backward pass, before "
                "sparsify could move its latents: remove that hook and call step() after "
                "backward()."
            )


def refuse_met_in_backward(weights: Collection[LatentWeight]) -> None:
    """Refuse a step to which backward left no gradient at all but hooks that may have used it.

    Raises:
        OptimizerError: If there is such a hook.
    """
    if any(weight.parameter.grad is not None for weight in weights):
        return
    for weight in weights:
        if getattr(weight.parameter, "_post_accumulate_grad_hooks", None):
            raise OptimizerError(
                f"No weight has a gradient, and {weight.name!r} has a hook that runs inside the "
                "backward pass: if it steps an optimizer there, remove it and call step() after "
                "backward()."
            )


def reshard(model: nn.Module) -> None:
    """Let go of weights that FSDP2 has gathered, so that the next pass sees what was written."""
    fsdp2 = _known("torch.distributed.fsdp", "FSDPModule")
    if fsdp2 is None:
        return
    for module in model.modules():
        if isinstance(module, fsdp2):
            module.reshard()


def _known(module: str, name: str) -> Any:
    """Return a class that may not have been imported, and of which there is no object then."""
    return getattr(sys.modules.get(module), name, None)


def _holds_optimizer(thing: Any) -> bool:
    return any(
        # torch's own hook for DistributedDataParallel keeps a functional optimizer in this.
        isinstance(part, Optimizer) or type(part).__name__ == "_OptimizerHookState"
        for part in _reachable(thing, depth=4)
    )


def _reachable(thing: Any, depth: int) -> Iterator[Any]:
    """Yield what a callable was given beforehand: closures, partial arguments, bound objects."""
    yield thing
    if depth == 0 or isinstance(thing, Tensor | nn.Module):
        return
    inside: list[Any] = []
    for cell in getattr(thing, "__closure__", None) or ():
        try:
            inside.append(cell.cell_contents)
        except ValueError:  # a name that is not bound yet
            continue
    if isinstance(thing, functools.partial):
        inside += [thing.func, *thing.args, *thing.keywords.values()]
    elif isinstance(thing, dict):
        inside += thing.values()
    elif isinstance(thing, list | tuple):
        inside += thing
    if hasattr(thing, "__self__"):
        inside.append(thing.__self__)
    for part in inside:
        yield from _reachable(part, depth - 1)
