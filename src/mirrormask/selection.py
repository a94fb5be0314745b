"""Which tensors are made sparse: selection by default rule, by name pattern or by module type."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn
from torch.nn.parameter import is_lazy

from mirrormask.errors import SelectionError
from mirrormask.layout import Layout, layout_of
from mirrormask.names import plain_name

Pattern = str | type[nn.Module]
Patterns = Pattern | Sequence[Pattern]

_LEFT_DENSE = (
    nn.Embedding,
    nn.EmbeddingBag,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.batchnorm._NormBase,
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """One weight tensor to make sparse; a tied tensor is one target with several names.

    Attributes:
        name: Its first qualified name in the model.
        names: All its qualified names.
        parameter: The tensor.
        layout: Where it keeps its outputs.
    """

    name: str
    names: tuple[str, ...]
    parameter: nn.Parameter
    layout: Layout = field(default_factory=Layout)


@dataclass(frozen=True)
class _Candidate:
    names: tuple[str, ...]
    owners: tuple[nn.Module, ...]
    parameter: nn.Parameter


def select(
    model: nn.Module, include: Patterns | None = None, exclude: Patterns | None = None
) -> list[Target]:
    """Return the tensors of a model that are to be made sparse, in the model's order.

    By default these are the trainable tensors of two or more dimensions, apart from
    biases, normalisations and embeddings (a head tied to an embedding stays dense with it).
    ``include``
    replaces that rule and may name embeddings; a tensor of fewer dimensions must be named in full.

    Args:
        model: Any module.
        include: Glob patterns of parameter or module names (``"layers.*"``), or module types.
        exclude: The same; wins over ``include``.

    Raises:
        SelectionError: If a pattern matches nothing, nothing is selected, or a selected tensor is
            complex, integer or not materialised.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
        >>> [target.name for target in select(net, exclude="2.*")]
        ['0.weight']
    """
    candidates = _candidates(model)
    wanted = candidates
    if include is not None:
        wanted = _matching(candidates, include, "include")
        exact = {pattern for pattern in _as_list(include) if isinstance(pattern, str)}
        wanted = [c for c in wanted if _may_be_a_matrix(c) or exact.intersection(c.names)]
    else:
        wanted = [c for c in candidates if _selected_by_default(c)]
    if exclude is not None:
        dropped = {id(c.parameter) for c in _matching(candidates, exclude, "exclude")}
        wanted = [c for c in wanted if id(c.parameter) not in dropped]
    if not wanted:
        raise SelectionError(
            f"No weight of {type(model).__name__} is selected: by default trainable tensors of two "
            "or more dimensions are, apart from embeddings and normalisations; name others with "
            "include=."
        )
    for candidate in wanted:
        _refuse_unsuitable(candidate)
    return [
        Target(name=c.names[0], names=c.names, parameter=c.parameter, layout=layout_of(c.owners[0]))
        for c in wanted
        if c.parameter.requires_grad and c.parameter.numel() > 0
    ] or _refuse_frozen(wanted)


def _candidates(model: nn.Module) -> list[_Candidate]:
    names: dict[int, list[str]] = {}
    owners: dict[int, list[nn.Module]] = {}
    parameters: dict[int, nn.Parameter] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        for local, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            key = id(parameter)
            parameters[key] = parameter
            name = plain_name(f"{prefix}.{local}" if prefix else local)
            names.setdefault(key, []).append(name)
            owners.setdefault(key, []).append(module)
    return [_Candidate(tuple(names[k]), tuple(owners[k]), parameters[k]) for k in parameters]


def _selected_by_default(candidate: _Candidate) -> bool:
    return (
        _may_be_a_matrix(candidate)
        and not any(isinstance(owner, _LEFT_DENSE) for owner in candidate.owners)
        # Attention keeps biases of keys and values in three dimensions.
        and not candidate.names[0].rpartition(".")[2].startswith("bias")
        # Frozen quantised tensors are no business of ours; trainable ones cannot be integers.
        and candidate.parameter.requires_grad
    )


def _may_be_a_matrix(candidate: _Candidate) -> bool:
    # A lazy parameter has no shape yet: passing over it in silence would leave its layer dense.
    return is_lazy(candidate.parameter) or candidate.parameter.ndim >= 2


def _as_list(patterns: Patterns) -> list[Pattern]:
    if isinstance(patterns, str) or not isinstance(patterns, Sequence):
        return [patterns]
    return list(patterns)


def _matching(candidates: list[_Candidate], patterns: Patterns, role: str) -> list[_Candidate]:
    found: dict[int, _Candidate] = {}
    for pattern in _as_list(patterns):
        if not isinstance(pattern, str | type):
            raise SelectionError(
                f"{role}={pattern!r} is no pattern: use names such as 'layers.*', or module types."
            )
        matches = [c for c in candidates if _matches(c, pattern)]
        if not matches:
            raise SelectionError(_unknown_pattern(candidates, pattern, role))
        found.update({id(c.parameter): c for c in matches})
    return [c for c in candidates if id(c.parameter) in found]


def _matches(candidate: _Candidate, pattern: Pattern) -> bool:
    if isinstance(pattern, type):
        return any(isinstance(owner, pattern) for owner in candidate.owners)
    return any(
        fnmatch.fnmatchcase(part, pattern)
        for name in candidate.names
        for part in _name_and_modules(name)
    )


def _name_and_modules(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _unknown_pattern(candidates: list[_Candidate], pattern: Pattern, role: str) -> str:
    if isinstance(pattern, type):
        return (
            f"{role}={pattern.__name__} matches no module that has weights of its own: give a "
            "module type of this model."
        )
    known = [part for c in candidates for name in c.names for part in _name_and_modules(name)]
    close = difflib.get_close_matches(pattern, known, n=1) or [c.names[0] for c in candidates[:3]]
    return (
        f"{role}={pattern!r} matches no weight or module: names in this model are such as "
        f"{', '.join(repr(name) for name in close)}."
    )


def _refuse_unsuitable(candidate: _Candidate) -> None:
    name, parameter = candidate.names[0], candidate.parameter
    if parameter.is_meta or is_lazy(parameter):
        where = "on the meta device" if parameter.is_meta else "lazy"
        raise SelectionError(
            f"Weight {name!r} is {where} and has no values yet: materialise the model before "
            f"calling sparsify, or leave it out with exclude={name!r}."
        )
    if parameter.is_complex() or not parameter.is_floating_point():
        raise SelectionError(
            f"Weight {name!r} is {str(parameter.dtype).removeprefix('torch.')}: only real "
            f"floating-point weights can be made sparse; leave it out with exclude={name!r}."
        )


def _refuse_frozen(wanted: list[_Candidate]) -> list[Target]:
    raise SelectionError(
        f"All selected weights are frozen or empty ({wanted[0].names[0]!r} is the first): set "
        "requires_grad=True on those to be trained."
    )
