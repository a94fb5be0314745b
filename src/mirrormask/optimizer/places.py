"""Whether a model still holds the very tensors that are trained for it."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn

from mirrormask.errors import LifecycleError
from mirrormask.optimizer.latent_weight import LatentWeight
from mirrormask.ranks import is_sharded


class Places:
    """Knows where in a model its targeted tensors are, to notice one that is exchanged.

    ``load_state_dict(assign=True)``, sharding, a layer that is replaced or taken out and other
    surgery put new tensors where the old ones were. The old ones would be trained on, and nobody
    would see it. A tensor that only moved, such as into a parametrisation, is found again.

    Args:
        model: Any module.
        weights: Those of its tensors that are watched.
    """

    def __init__(self, model: nn.Module, weights: Collection[LatentWeight]) -> None:
        self.model = model
        self.weights = list(weights)
        found = _paths(model)
        self.paths = [found.get(weight.parameter, ()) for weight in self.weights]

    def check(self) -> bool:
        """Refuse to go on where the model has another tensor than the one that is trained.

        Returns:
            Whether FSDP2 has some weight gathered at the moment.

        Raises:
            LifecycleError: If a weight is no longer in the model, or sharded in another way.
        """
        gathered, lost = False, []
        # A few dictionary look-ups a tensor: cheap enough for every step.
        for index, weight in enumerate(self.weights):
            now = _at(self.model, self.paths[index])
            if now is not weight.parameter:
                if now is not None and is_sharded(weight.parameter) and not is_sharded(now):
                    gathered = True
                    continue
                lost.append(index)
            elif not weight.lies_as_before():
                raise _refusal(weight)
        found = _paths(self.model) if lost else {}
        for index in lost:
            weight = self.weights[index]
            if weight.parameter not in found:
                raise _refusal(weight)
            self.paths[index] = found[weight.parameter]
        return gathered


def _paths(model: nn.Module) -> dict[Tensor, tuple[str, ...]]:
    return {tensor: tuple(name.split(".")) for name, tensor in model.named_parameters()}


def _at(model: nn.Module, path: tuple[str, ...]) -> Tensor | None:
    module: nn.Module | None = model
    for part in path[:-1]:
        module = None if module is None else module._modules.get(part)
    return None if module is None or not path else module._parameters.get(path[-1])


def _refusal(weight: LatentWeight) -> LifecycleError:
    return LifecycleError(
        f"Weight {weight.name!r} was replaced or sharded anew after sparsify, or is no longer in "
        "the model (load_state_dict(assign=True) replaces weights, too), and the old tensor would "
        "be trained on: move, wrap and shard the model first, or call finalize before the change "
        "and wrap a new optimizer after it."
    )
