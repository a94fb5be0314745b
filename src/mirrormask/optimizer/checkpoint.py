"""The optimizer's state as one plain dictionary, and back, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mirrormask.errors import CheckpointError, LifecycleError
from mirrormask.names import shorten
from mirrormask.optimizer.cut import note_densities
from mirrormask.optimizer.latent_weight import LatentWeight

if TYPE_CHECKING:
    from mirrormask.optimizer.core import SparseOptimizer

FORMAT = 3
_OWN = "mirrormask"


def pack(optimizer: SparseOptimizer) -> dict[str, Any]:
    """Return the state in the format of ``torch.optim``, with one more entry, ``"mirrormask"``.

    The state of a targeted tensor holds its latents by name, ``"cut"`` once there is a mask,
    ``"squares"`` while gradients are sensed, and the base optimizer's state of each slot as
    ``"<slot>.<entry>"``. All tensors are the live ones, as in ``torch.optim``, and sharded as the
    weights are. The model's own checkpoint has the weights that share its memory; they are here too
    where the method changes them at its start, since a new optimizer would do so again to a model
    that is loaded already.
    """
    if optimizer.finalized:
        raise LifecycleError(
            "The model is finalised and the optimizer holds nothing more to resume: save the "
            "model's state_dict instead."
        )
    state: dict[int, dict[str, Any]] = {}
    groups: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        indices = []
        for parameter in group["params"]:
            index = len(state)
            indices.append(index)
            weight = optimizer.weights.get(parameter)
            state[index] = (
                dict(optimizer.base.state.get(parameter, {}))
                if weight is None
                else _pack_weight(optimizer, weight)
            )
        groups.append(group | {"params": indices})
    own = _identity(optimizer) | {
        "contents": [_contents(entry) for entry in state.values()],
        "steps_done": optimizer.steps_done,
        "budget": optimizer.budget,
        "pressure": dict(optimizer.pressure_state),
        "pending": optimizer.feedback.receive(),
        "boost": optimizer.boosting.state_dict(),
        "seed": optimizer.seed,
        "stored": dict(optimizer.stored),
        "stored_contents": _contents(optimizer.stored),
    }
    return {"state": state, "param_groups": groups, _OWN: own}


def unpack(optimizer: SparseOptimizer, state_dict: dict[str, Any]) -> None:
    """Restore what :func:`pack` returned; everything is checked before anything is written."""
    own = _check(optimizer, state_dict)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    saved: dict[int, dict[str, Any]] = state_dict["state"]
    base_state: dict[Tensor, dict[str, Any]] = {}
    latents: dict[Tensor, tuple[dict[str, Tensor], Tensor | None, Tensor | None]] = {}
    for index, parameter in enumerate(parameters):
        weight = optimizer.weights.get(parameter)
        if weight is None:
            base_state[parameter] = saved[index]
            continue
        latents[parameter] = _read_latents(optimizer, weight, saved[index])
        for name, slot in weight.slots.items():
            base_state[slot] = {
                key.removeprefix(f"{name}."): weight.part_of(value)
                if isinstance(value, Tensor)
                else value
                for key, value in saved[index].items()
                if key.startswith(f"{name}.")
            }
    _load_base(optimizer, base_state)
    for parameter, (tensors, cut, squares) in latents.items():
        optimizer.weights[parameter].restore(tensors, cut, squares)
    if optimizer.recipe.boost is not None:
        note_densities(optimizer.weights.values())
    for group, saved_group in zip(optimizer.param_groups, state_dict["param_groups"], strict=True):
        group.update({key: value for key, value in saved_group.items() if key != "params"})
    optimizer.steps_done = own["steps_done"]
    optimizer.budget = own["budget"]
    optimizer.pressure_state = dict(own["pressure"])
    optimizer.feedback.restore(own["pending"])
    optimizer.boosting.load_state_dict(own["boost"])
    optimizer.seed = own["seed"]
    optimizer.stored = {name: tensor.clone() for name, tensor in own["stored"].items()}


def _identity(optimizer: SparseOptimizer) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "method": optimizer.method,
        "recipe": repr(optimizer.recipe),
        "base": type(optimizer.base).__name__,
        "sparsity": optimizer.sparsity,
        "steps": optimizer.steps,
        "parameters": [
            [_describe(optimizer, parameter) for parameter in group["params"]]
            for group in optimizer.param_groups
        ],
    }


def _describe(optimizer: SparseOptimizer, parameter: Tensor) -> list[Any]:
    weight = optimizer.weights.get(parameter)
    name = "(dense)" if weight is None else weight.name
    return [name, str(parameter.dtype), *parameter.shape]


def _pack_weight(optimizer: SparseOptimizer, weight: LatentWeight) -> dict[str, Any]:
    packed: dict[str, Any] = {
        name: weight.wrap(tensor)
        for name, tensor in weight.latents.items()
        if not _in_the_model(optimizer, weight, name)
    }
    if weight.cut is not None:
        packed["cut"] = weight.wrap(weight.cut)
    if weight.squares is not None:
        packed["squares"] = weight.wrap(weight.squares)
    for name, slot in weight.slots.items():
        for key, value in optimizer.base.state.get(slot, {}).items():
            packed[f"{name}.{key}"] = weight.wrap(value) if isinstance(value, Tensor) else value
    return packed


def _read_latents(
    optimizer: SparseOptimizer, weight: LatentWeight, saved: dict[str, Any]
) -> tuple[dict[str, Tensor], Tensor | None, Tensor | None]:
    tensors = {
        name: saved[name] for name in weight.latents if not _in_the_model(optimizer, weight, name)
    }
    return tensors, saved.get("cut"), saved.get("squares")


def _in_the_model(optimizer: SparseOptimizer, weight: LatentWeight, name: str) -> bool:
    """Return whether the model's own checkpoint has this latent."""
    masking = optimizer.recipe.masking
    cuts_first = masking.cut_after(0, optimizer.steps, optimizer.sparsity) is not None
    return weight.shares_memory and name == "x" and not cuts_first


def _load_base(optimizer: SparseOptimizer, base_state: dict[Tensor, dict[str, Any]]) -> None:
    """Let the base optimizer load its own state, keyed as it sees parameters inside a step."""
    base = optimizer.base
    with optimizer.latent_groups() as groups:
        order = [p for group in groups for p in group["params"]]
        indices = {id(parameter): index for index, parameter in enumerate(order)}
        base.load_state_dict(
            {
                "state": {indices[id(p)]: state for p, state in base_state.items() if state},
                "param_groups": [
                    group | {"params": [indices[id(p)] for p in group["params"]]}
                    for group in groups
                ],
            }
        )


def _check(optimizer: SparseOptimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    own = state_dict.get(_OWN) if isinstance(state_dict, dict) else None
    if not isinstance(own, dict):
        raise CheckpointError(
            "This is no checkpoint of a mirrormask optimizer: load what its own state_dict() "
            "returned, or load the model alone and call sparsify."
        )
    if own.get("format") != FORMAT:
        raise CheckpointError(
            f"The checkpoint has format {own.get('format')}, this version reads {FORMAT}: use the "
            "version of mirrormask that wrote it."
        )
    for key, here in _identity(optimizer).items():
        there = own.get(key)
        if there != here:
            written, wanted = _first_difference(there, here)
            raise CheckpointError(
                f"The checkpoint was written with {key}={_short(written)}, this run has "
                f"{_short(wanted)}: resume with the settings of the run that wrote it."
            )
    try:
        problem = next(_problems(optimizer, state_dict, own), None)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        problem = repr(error)
    if problem is not None:
        raise CheckpointError(f"The checkpoint is damaged ({problem}): resume from an older one.")
    return own


def _problems(
    optimizer: SparseOptimizer, state_dict: dict[str, Any], own: dict[str, Any]
) -> Iterator[str]:
    """Yield what is wrong with a checkpoint of this very run."""
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    groups = state_dict["param_groups"]
    if len(groups) != len(optimizer.param_groups):
        yield f"it has {len(groups)} parameter groups, not {len(optimizer.param_groups)}"
    for group, here in zip(groups, optimizer.param_groups, strict=True):
        if lost := optimizer.base.defaults.keys() & here.keys() - group.keys():
            yield f"a parameter group has no {min(lost)!r}"
    state = state_dict["state"]
    if state.keys() != set(range(count)):
        yield "the state of a tensor is missing"
    if [_contents(state[index]) for index in range(count)] != own["contents"]:
        yield "the state of a tensor is not what was written"
    steps_done, pressure, pending = own["steps_done"], own["pressure"], own["pending"]
    if type(steps_done) is not int or not 0 <= steps_done <= optimizer.steps:
        yield f"steps_done={_short(steps_done)}"
    if type(own["budget"]) is not float:
        yield f"budget={_short(own['budget'])}"
    if not optimizer.pressure_state.keys() <= pressure.keys() or not _plain(pressure.values()):
        yield f"pressure={_short(pressure)}"
    if pending is not None and not _plain(pending):
        yield f"pending={_short(pending)}"
    if (damage := optimizer.boosting.damage(own["boost"])) is not None:
        yield _short(damage)
    if type(own["seed"]) is not int or own["seed"] < 0:
        yield f"seed={_short(own['seed'])}"
    if _contents(own["stored"]) != own["stored_contents"]:
        yield "the weights to rewind to are not what was written"


def _plain(values: Iterable[object]) -> bool:
    return all(isinstance(value, float | int) for value in values)


def _contents(entry: dict[str, Any]) -> list[list[Any]]:
    """Return the names and shapes of one tensor's state: a table to check its arrival by."""
    return [
        [key, [str(value.dtype), *value.shape] if isinstance(value, Tensor) else None]
        for key, value in entry.items()
    ]


def _first_difference(there: object, here: object) -> tuple[object, object]:
    """Return the innermost first pair of elements that differ, so that messages stay short."""
    while isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        if not any(isinstance(value, list) for value in here):
            break
        there, here = next((a, b) for a, b in zip(there, here, strict=True) if a != b)
    return there, here


def _short(value: object) -> str:
    return shorten(repr(value), 120)
