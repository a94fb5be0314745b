"""The registry: built-in names, names that others add, and what it refuses."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

import pytest

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.methods import Method, registry

MINE = Method(name="mine", summary="nothing but dense", source="here", build=mm.Recipe)


@pytest.fixture
def mine() -> Iterator[Method]:
    yield mm.register(MINE)
    registry.unregister("mine")


@pytest.mark.parametrize("method", mm.METHODS)
def test_a_record_says_what_it_is(method: str) -> None:
    record = registry.method(method)
    assert record.name == method
    assert 10 <= len(record.summary) <= 100
    assert record.source
    assert "\n" not in record.summary + record.source
    assert isinstance(record.recipe, mm.Recipe)
    assert len(record.knobs) <= 2


def test_an_unknown_method_names_the_nearest_and_all() -> None:
    with pytest.raises(ArgumentError, match=r"'pilot-miror' is unknown: did you mean 'pilot-mir"):
        registry.method("pilot-miror")
    with pytest.raises(ArgumentError) as caught:
        registry.method("?")
    assert all(name in str(caught.value) for name in mm.METHODS)


def test_the_registry_cannot_be_changed_by_accident() -> None:
    with pytest.raises(TypeError):
        mm.METHODS["mine"] = MINE


def test_a_registered_method_is_known_by_name(mine: Method) -> None:
    assert mm.METHODS["mine"] is registry.method("mine") is mine


def test_a_name_is_taken_once(mine: Method) -> None:
    with pytest.raises(ArgumentError, match="There is a method 'mine' already: give yours another"):
        mm.register(MINE)


@pytest.mark.parametrize("name", ["", "two words", " mine"])
def test_a_name_is_one_word(name: str) -> None:
    with pytest.raises(ArgumentError, match="is no name: use one word"):
        mm.register(Method(name=name, summary="-", source="-", build=mm.Recipe))


def test_a_method_that_builds_no_recipe_is_refused() -> None:
    with pytest.raises(ArgumentError, match="build of 'mine' returns a int: return a Recipe"):
        mm.register(Method(name="mine", summary="-", source="-", build=lambda: 3))
    assert "mine" not in mm.METHODS


def test_unregister_refuses_what_is_not_there() -> None:
    with pytest.raises(ArgumentError, match="'mine' is unknown"):
        registry.unregister("mine")


def entry_point(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    point = importlib.metadata.EntryPoint("theirs", value, registry.ENTRY_POINTS)
    monkeypatch.setattr(
        registry, "entry_points", lambda group: [point] if group == registry.ENTRY_POINTS else []
    )


def test_installed_packages_add_methods(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    (tmp_path / "their_method.py").write_text(
        "import mirrormask as mm\n"
        "mm.register(mm.Method(name='theirs', summary='-', source='-', build=mm.Recipe))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    entry_point(monkeypatch, "their_method")
    try:
        assert registry.method("theirs").summary == "-"
    finally:
        registry.unregister("theirs")


def test_a_broken_plugin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_point(monkeypatch, "there_is_no_such_module")
    with pytest.raises(ArgumentError, match=r"plugin 'theirs' \(there_is_no_such_module\) cannot"):
        registry.method("theirs")
