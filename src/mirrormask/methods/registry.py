"""The registry of named methods: the built-in ones, those of plugins, and those of callers."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType

from mirrormask.errors import ArgumentError
from mirrormask.methods import (
    bregman,
    cycles,
    dynamics,
    factorised,
    lasso,
    magnitude,
    pilot,
    regrowth,
    structured,
    thresholds,
)
from mirrormask.methods.record import Method
from mirrormask.names import unknown_name
from mirrormask.optimizer import Recipe

ENTRY_POINTS = "mirrormask.methods"
"""Group of entry points: installed packages name modules there that call :func:`register`."""

_FAMILIES = (
    pilot,
    lasso,
    magnitude,
    regrowth,
    cycles,
    factorised,
    dynamics,
    thresholds,
    bregman,
    structured,
)
_records: dict[str, Method] = {}

METHODS: Mapping[str, Method] = MappingProxyType(_records)
"""All methods by name, in the order in which they are listed."""


def register(record: Method) -> Method:
    """Add a method, so that ``sparsify``, studies and listings know it by name.

    Args:
        record: The method; its recipe is built once, so that mistakes show here.

    Returns:
        The record.

    Raises:
        ArgumentError: If the name is taken or no plain word, or the recipe cannot be built.

    Example:
        >>> from mirrormask.masking import GradualCubic
        >>> late = Method(
        ...     name="gmp-late",
        ...     summary="gradual magnitude pruning in the second half",
        ...     source="an example",
        ...     build=lambda: Recipe(masking=GradualCubic(begin=0.5, end=0.9)),
        ... )
        >>> register(late).name in METHODS
        True
        >>> unregister("gmp-late")
    """
    if not record.name or record.name.split() != [record.name]:
        raise ArgumentError(f"name={record.name!r} is no name: use one word such as 'my-method'.")
    if record.name in _records:
        raise ArgumentError(
            f"There is a method {record.name!r} already: give yours another name, or call "
            "unregister first."
        )
    if not isinstance(record.recipe, Recipe):
        raise ArgumentError(
            f"build of {record.name!r} returns a {type(record.recipe).__name__}: return a Recipe."
        )
    _records[record.name] = record
    return record


def unregister(name: str) -> None:
    """Take a method out of the registry.

    Raises:
        ArgumentError: If there is none of this name.
    """
    method(name)
    del _records[name]


def method(name: str) -> Method:
    """Return the method of this name.

    Raises:
        ArgumentError: If there is none; the message holds the nearest and all names.

    Example:
        >>> method("pilot").recipe.geometry.width
        3.0
    """
    if name not in _records:
        load_plugins()
    if name not in _records:
        raise ArgumentError(unknown_name("method", name, _records))
    return _records[name]


def load_plugins() -> None:
    """Import what installed packages name in the group :data:`ENTRY_POINTS`, once a process.

    Raises:
        ArgumentError: If one of them cannot be imported.
    """
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:
            raise ArgumentError(
                f"The plugin {point.name!r} ({point.value}) cannot be loaded ({error!r}): repair "
                "or uninstall it."
            ) from error


for _family in _FAMILIES:
    for _record in _family.RECORDS:
        register(_record)
