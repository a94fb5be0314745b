"""Put a planned forward in place of a model's own, and take it away again."""

from __future__ import annotations

from torch import nn

from mirrormask.deploy.runner.forward import ProgramForward
from mirrormask.deploy.runner.split_forward import SplitForward


def attach(model: nn.Module, forward: ProgramForward | SplitForward) -> None:
    """Make a model run as it was planned from now on."""
    # A bound method, as torch expects one: exporting looks into its code.
    model.forward = forward.forward
    # A program has copies of the weights, which would go on as if nothing had been loaded.
    model.register_load_state_dict_post_hook(_went_stale)  # type: ignore[no-untyped-call]


def detach(model: nn.Module) -> None:
    """Make a model run layer by layer again."""
    if planned_of(model) is not None:
        del model.__dict__["forward"]


def _went_stale(model: nn.Module, incompatible: object) -> None:
    detach(model)


def planned_of(model: nn.Module) -> ProgramForward | SplitForward | None:
    """Return what a model runs as, whole or in regions, or None if layer by layer."""
    found = getattr(model.__dict__.get("forward"), "__self__", None)
    return found if isinstance(found, ProgramForward | SplitForward) else None


def program_of(model: nn.Module) -> ProgramForward | None:
    """Return the one program that a model runs as, or None."""
    found = planned_of(model)
    return found if isinstance(found, ProgramForward) else None
