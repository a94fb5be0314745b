"""Zeros for copies of a model that other code keeps: averages of its weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mirrormask.errors import ArgumentError
from mirrormask.names import plain_name


@torch.no_grad()
def apply_masks(copy: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Cut a copy of a model, such as an average of its weights, as the model itself is cut.

    An average over steps (EMA, SWA) remembers weights from before they were cut, so it has hardly
    any zeros. Averaging goes on unharmed afterwards, since what is cut stays zero from then on.

    Args:
        copy: A module with the parameters of the model, by the same names or, as in
            ``torch.optim.swa_utils.AveragedModel``, with all of them below one module.
        masks: What :meth:`mirrormask.SparseOptimizer.masks` returns, before or after ``finalize``.

    Raises:
        ArgumentError: If a masked tensor is missing from the copy or has another shape; nothing
            is cut then.

    Example:
        >>> copy = nn.Linear(2, 1, bias=False)
        >>> apply_masks(copy, {"weight": torch.tensor([[True, False]])})
        >>> (copy.weight == 0).tolist()
        [[False, True]]
    """
    parameters = {plain_name(n): p for n, p in copy.named_parameters(remove_duplicate=False)}
    prefix = "" if masks.keys() <= parameters.keys() else "module."
    for name, mask in masks.items():
        found = parameters.get(prefix + name)
        if found is None or found.shape != mask.shape:
            has = "has no such tensor" if found is None else f"has it as {tuple(found.shape)}"
            raise ArgumentError(
                f"The masks are of another model: {name!r} is masked as {tuple(mask.shape)}, and "
                f"this {type(copy).__name__} {has}."
            )
    for name, mask in masks.items():
        parameter = parameters[prefix + name]
        parameter.masked_fill_(~mask.to(parameter.device), 0)
