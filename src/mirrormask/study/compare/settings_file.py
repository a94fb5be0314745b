"""Read the settings of a comparison from YAML, strictly: what is unknown or odd is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

from mirrormask.errors import ArgumentError, DataError, MissingExtraError
from mirrormask.names import unknown_name
from mirrormask.study.compare.problem import Problem, RateRange
from mirrormask.study.compare.settings import CompareSettings, Override


def read_settings(path: Path) -> CompareSettings:
    """Return the settings that a YAML file holds.

    Raises:
        DataError: If the file is missing or no YAML.
        ArgumentError: If an entry is unknown, missing, of another type or outside its domain.
        MissingExtraError: If PyYAML is not installed.
    """
    try:
        import yaml  # noqa: PLC0415  (an extra: this reader only)
    except ImportError as error:
        raise MissingExtraError(
            'settings files are YAML: pip install "mirrormask[study]".'
        ) from error
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): give a YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no YAML: {error}") from error
    try:
        return from_mapping(content)
    except ArgumentError as error:
        raise ArgumentError(f"{path}: {error}") from error


def from_mapping(content: Any) -> CompareSettings:
    """Return settings from plain values, as YAML or JSON hold them.

    Raises:
        ArgumentError: If an entry is unknown, missing, of another type or outside its domain.

    Example:
        >>> settings = from_mapping({
        ...     "name": "tiny",
        ...     "problems": [{"name": "digits", "data": "digits", "model": "mlp"}],
        ...     "methods": ["pilot", "gmp"], "sparsities": [0.9], "seeds": 2,
        ... })
        >>> settings.seeds, settings.runs
        ((0, 1), 24)
    """
    entries = _entries(content, CompareSettings, "The settings")
    if "problems" in entries:
        problems = entries["problems"]
        if not isinstance(problems, list):
            raise ArgumentError(f"problems={problems!r} is no list: give one entry a problem.")
        entries["problems"] = tuple(_problem(problem) for problem in problems)
    if isinstance(entries.get("seeds"), int) and not isinstance(entries["seeds"], bool):
        entries["seeds"] = list(range(entries["seeds"]))
    for name, kind in (
        ("methods", str),
        ("sparsities", float),
        ("seeds", int),
        ("tuning_seeds", int),
    ):
        if name in entries:
            entries[name] = _several(name, entries[name], kind)
    if "overrides" in entries:
        found = _mapping("overrides", entries["overrides"])
        entries["overrides"] = tuple(_override(name, own) for name, own in found.items())
    if "ours" in entries:
        notes = _mapping("ours", entries["ours"])
        entries["ours"] = tuple((str(k), _value(str(k), note, str)) for k, note in notes.items())
    return CompareSettings(**_typed(entries, CompareSettings))


def _override(method: Any, content: Any) -> Override:
    own = dict(_mapping(f"overrides of {method}", content))
    entries = _entries(own | {"method": method}, Override, "An override")
    if "knobs" in entries:
        knobs = _mapping("knobs", entries["knobs"])
        entries["knobs"] = tuple((str(k), _value(str(k), v, float)) for k, v in knobs.items())
    if "sparsities" in entries:
        entries["sparsities"] = _several("sparsities", entries["sparsities"], float)
    if "lr" in entries:
        rates = _entries(entries["lr"], RateRange, "lr")
        entries["lr"] = RateRange(**_typed(rates, RateRange))
    return Override(**_typed(entries, Override))


def _mapping(name: str, content: Any) -> Mapping[Any, Any]:
    if not isinstance(content, Mapping):
        raise ArgumentError(f"{name}={content!r} is no mapping: write entries as 'name: value'.")
    return content


def _problem(content: Any) -> Problem:
    entries = _entries(content, Problem, "A problem")
    for name in ("lr", "adam_lr"):
        if name in entries:
            rates = _entries(entries[name], RateRange, name)
            entries[name] = RateRange(**_typed(rates, RateRange))
    if "drops" in entries:
        entries["drops"] = _several("drops", entries["drops"], float)
    return Problem(**_typed(entries, Problem))


def _entries(content: Any, cls: type, what: str) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise ArgumentError(f"{what}: {content!r} is no mapping: write entries as 'name: value'.")
    known = [field.name for field in fields(cls)]
    for name in content:
        if name not in known:
            raise ArgumentError(unknown_name("entry", name, known))
    for field in fields(cls):
        needed = field.default is MISSING and field.default_factory is MISSING
        if needed and field.name not in content:
            raise ArgumentError(f"{what} has no {field.name}: add it.")
    return dict(content)


def _typed(entries: Mapping[str, Any], cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    plain = {str: str, int: int, float: float, bool: bool}
    optional = {kind | None: kind for kind in (str, int, float)}
    typed = dict(entries)
    for name, value in entries.items():
        kind = plain.get(hints[name])
        if kind is None and value is not None:
            kind = optional.get(hints[name])
        if kind is not None:
            typed[name] = _value(name, value, kind)
    return typed


def _several(name: str, value: Any, kind: type) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ArgumentError(f"{name}={value!r} is no list: write it as [first, second].")
    return tuple(_value(name, part, kind) for part in value)


def _value(name: str, value: Any, kind: type) -> Any:
    if kind is float:
        # YAML reads 5e-4 as a word and 1 as a whole number; both mean a number here.
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                pass
    elif isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    names = {str: "a word", int: "a whole number", float: "a number", bool: "true or false"}
    raise ArgumentError(f"{name}={value!r} is not {names[kind]}.")
