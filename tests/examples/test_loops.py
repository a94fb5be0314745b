"""The examples are the test: every loop, with all that it has on, to the exact target and back."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import mirrormask as mm

EXAMPLES = Path(__file__).parents[2] / "examples"
METHODS = {"factors": "pilot", "mirror": "pilot-mirror", "proximal": "l1-freeze"}


def of_plain(result: Any) -> tuple[nn.Module, mm.SparsityReport]:
    return result[0], result[2]


def of_lightning(result: Any) -> tuple[nn.Module, mm.SparsityReport]:
    return result, result.report


def of_accelerate(result: Any) -> tuple[nn.Module, mm.SparsityReport]:
    return result


def of_trainer(result: Any) -> tuple[nn.Module, mm.SparsityReport]:
    return result[0].model, result[1]


LOOPS: dict[str, Callable[[Any], tuple[nn.Module, mm.SparsityReport]]] = {
    "plain_torch": of_plain,
    "with_lightning": of_lightning,
    "with_accelerate": of_accelerate,
    "with_transformers": of_trainer,
}
every_loop = pytest.mark.parametrize("loop", LOOPS)


@pytest.fixture(scope="session")
def example() -> Callable[[str], ModuleType]:
    """Import an example, once."""
    loaded: dict[str, ModuleType] = {}

    def load(name: str) -> ModuleType:
        if name not in loaded:
            spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
            assert spec is not None and spec.loader is not None
            loaded[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded[name])
        return loaded[name]

    return load


@every_loop
@pytest.mark.parametrize("base", ["sgd", "adamw"])
@pytest.mark.parametrize("kind", METHODS)
def test_to_the_exact_target_and_on_from_the_frameworks_own_checkpoint(
    example, tmp_path: Path, loop: str, base: str, kind: str
) -> None:
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    module = example(loop)
    options = {"base": base, "method": METHODS[kind], "patience": 100}
    whole, report = LOOPS[loop](module.train(tmp_path / "whole", **options))
    with pytest.raises(module.Killed):  # in the middle of the ramp
        module.train(tmp_path / "killed", killed_after=3, **options)
    resumed, again = LOOPS[loop](module.train(tmp_path / "killed", **options))
    assert report == again
    assert report.zeros == report.asked_zeros == round(0.9 * report.weights)
    named = dict(whole.named_parameters())
    assert report.zeros == sum(int((named[t.name] == 0).sum()) for t in report.tensors)
    assert report.method == METHODS[kind]
    for (name, one), two in zip(
        whole.state_dict().items(), resumed.state_dict().values(), strict=True
    ):
        assert torch.equal(one, two), name


def test_an_average_has_the_same_zeros(example, tmp_path: Path) -> None:
    _, average, report = example("plain_torch").train(tmp_path)
    named = dict(average.module.named_parameters())
    assert sum(int((named[t.name] == 0).sum()) for t in report.tensors) == report.zeros


@every_loop
def test_as_a_script(example, capsys, loop: str) -> None:
    began = time.process_time()
    example(loop).main()
    assert time.process_time() - began < 30
    lines = capsys.readouterr().out.splitlines()
    assert any(line.endswith(": exact") for line in lines)
    assert float(lines[-1].removeprefix("accuracy ")) > 0.8
