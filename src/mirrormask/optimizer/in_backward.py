"""Optimizers that step inside the backward pass, which leaves no gradient to pull back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from mirrormask.errors import OptimizerError
from mirrormask.selection import Target

if TYPE_CHECKING:
    from mirrormask.optimizer.latent_weight import LatentWeight

_WAY_OUT = (
    "latents need the gradient after backward is done: take the step after it, by a plain "
    "optimizer such as torch.optim.AdamW."
)


def refuse_known(base: Optimizer, targets: Collection[Target]) -> None:
    """Refuse a base that fuses its step into backward, as far as it can be told beforehand.

    That is LOMO and its like, ``_apply_optimizer_in_backward`` of ``torch.distributed.optim``, and
    hooks on a weight that hold an optimizer.
    """
    if callable(getattr(base, "fused_backward", None)):
        raise OptimizerError(f"{type(base).__name__} steps inside backward, and {_WAY_OUT}")
    for target in targets:
        hooks = _hooks(target.parameter).values()
        if hasattr(target.parameter, "_in_backward_optimizers") or any(map(_holds_one, hooks)):
            raise OptimizerError(
                f"Weight {target.name!r} has a hook that steps an optimizer inside backward, and "
                f"{_WAY_OUT}"
            )


def refuse_met(weights: Collection[LatentWeight]) -> None:
    """Refuse a step to which backward left no gradient at all but hooks that may have used it."""
    if any(weight.parameter.grad is not None for weight in weights):
        return
    for weight in weights:
        if _hooks(weight.parameter):
            raise OptimizerError(
                f"No weight has a gradient, and {weight.name!r} has a hook that runs inside "
                f"backward: if it steps an optimizer there, {_WAY_OUT}"
            )


def _hooks(parameter: Tensor) -> dict[int, Callable[..., Any]]:
    # The public method only adds; torch has no way to ask.
    return getattr(parameter, "_post_accumulate_grad_hooks", None) or {}


def _holds_one(hook: Callable[..., Any]) -> bool:
    """Return whether an optimizer is bound to this function, or captured by it."""
    return any(isinstance(value, Optimizer) for value in _captured(hook))


def _captured(hook: Callable[..., Any]) -> Iterator[object]:
    keywords = getattr(hook, "__kwdefaults__", None) or getattr(hook, "keywords", None) or {}
    cells = [cell.cell_contents for cell in getattr(hook, "__closure__", None) or ()]
    values = [
        getattr(hook, "__self__", None),
        *cells,
        *(getattr(hook, "__defaults__", None) or ()),
        *(getattr(hook, "args", None) or ()),
        *keywords.values(),
    ]
    for value in values:
        yield value
        if isinstance(value, dict):
            yield from value.values()
