"""Whether a model still holds the very tensors that are trained for it."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from mirrormask.errors import LifecycleError
from mirrormask.optimizer.latent_weight import LatentWeight


class Places:
    """Where in a model its targeted tensors are.

    ``load_state_dict(assign=True)``, a layer that is replaced or taken out, and other surgery put
    new tensors where the old ones were. The old ones would be trained on, and no one would see it.
    A tensor that only moved, such as into a parametrisation or a wrapper, is found again.
    """

    def __init__(self, model: nn.Module, weights: Iterable[LatentWeight]) -> None:
        found = _paths(model)
        self._paths = {w.parameter: found.get(w.parameter, ()) for w in weights}

    def refuse_swapped(self, model: nn.Module, weights: Iterable[LatentWeight]) -> None:
        """Refuse to go on if a tensor is nowhere in the model any more."""
        # A few dictionary look-ups a tensor: cheap enough for every step.
        lost = [w for w in weights if not _is_at(model, self._paths[w.parameter], w.parameter)]
        if not lost:
            return
        found = _paths(model)
        for weight in lost:
            if weight.parameter not in found:
                raise LifecycleError(
                    f"The tensor {weight.name!r} that sparsify was given is no longer in the "
                    "model (load_state_dict(assign=True), or a layer replaced or removed): copy "
                    "values into the old tensor, or call finalize before the change and wrap a "
                    "new optimizer after it."
                )
            self._paths[weight.parameter] = found[weight.parameter]


def _paths(model: nn.Module) -> dict[Tensor, tuple[str, ...]]:
    return {tensor: tuple(name.split(".")) for name, tensor in model.named_parameters()}


def _is_at(model: nn.Module, path: tuple[str, ...], parameter: Tensor) -> bool:
    module: nn.Module | None = model
    for part in path[:-1]:
        module = None if module is None else module._modules.get(part)
    return bool(path) and module is not None and module._parameters.get(path[-1]) is parameter
