"""What engines of many machines do to models and optimizers, seen through or refused early."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from mirrormask.errors import LifecycleError, OptimizerError
from mirrormask.optimizer.latent_weight import LatentWeight
from mirrormask.ranks import is_sharded


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside a DistributedDataParallel, whose wrapper only adds to names.

    Raises:
        OptimizerError: If the model is wrapped by FSDP1, or its gradients are used up by an
            optimizer inside the backward pass.
    """
    ddp = _known("torch.nn.parallel", "DistributedDataParallel")
    if ddp is not None and isinstance(model, ddp):
        for hook in getattr(model, "_comm_hooks", ()):
            if any(_holds_optimizer(part) for part in hook):
                raise OptimizerError(
                    "DistributedDataParallel steps an optimizer inside the backward pass "
                    "(a communication hook holds one), where no latents can be moved: leave "
                    "that hook out and call step() after backward()."
                )
        model = model.module
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


class Registered:
    """Knows by which modules the weights are held, to notice one that is exchanged.

    Args:
        model: Any module.
        weights: Those of its tensors that are watched.
    """

    def __init__(self, model: nn.Module, weights: Iterable[LatentWeight]) -> None:
        modules = dict(model.named_modules(remove_duplicate=False))
        self.places: list[tuple[dict[str, Any], str, LatentWeight]] = []
        for weight in weights:
            owner, _, leaf = weight.name.rpartition(".")
            if owner in modules:
                self.places.append((modules[owner]._parameters, leaf, weight))

    def check(self) -> bool:
        """Refuse to go on where a module has another tensor than the one that is trained.

        Returns:
            Whether FSDP2 has some weight gathered at the moment.

        Raises:
            LifecycleError: If a weight was replaced or sharded in another way.
        """
        gathered = False
        for held, leaf, weight in self.places:
            now = held.get(leaf)
            if now is weight.parameter or now is None:
                if weight.lies_as_before():
                    continue
            elif is_sharded(weight.parameter) and not is_sharded(now):
                gathered = True
                continue
            raise LifecycleError(
                f"Weight {weight.name!r} was replaced or sharded anew after sparsify, which keeps "
                "training the old tensor: move, wrap and shard the model first (fully_shard, "
                "to), then build the optimizer and call sparsify."
            )
        return gathered


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
