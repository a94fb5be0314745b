"""Every way into the room refuses what is no path and no model with the same clear error."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mirrormask.deploy import (
    Plan,
    bench,
    compile,
    export_model,
    inspect,
    load,
    load_sparse,
    pack_file,
    save,
    unpack_file,
)
from mirrormask.errors import ArgumentError

X = torch.randn(1, 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: load(3),
        lambda: load(None),
        lambda: inspect(b"model"),
        lambda: save({}, 3.5),
        lambda: pack_file(3, "a"),
        lambda: unpack_file(3, "a"),
        lambda: load_sparse(3, nn.Linear(3, 3)),
        lambda: export_model(nn.Linear(3, 3), X, 3),
    ],
)
def test_what_is_no_path(call):
    with pytest.raises(ArgumentError, match="is no path: give text"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: load("a", {}),
        lambda: load_sparse("a", 3),
        lambda: compile({}, X),
        lambda: bench("net", X),
        lambda: export_model(3, X, "a.pt2"),
    ],
)
def test_what_is_no_model(call):
    with pytest.raises(ArgumentError, match="is no model: give an"):
        call()


def test_what_is_no_plan():
    with pytest.raises(ArgumentError):
        compile(nn.Linear(3, 3), X, plan="fast")
    with pytest.raises(ArgumentError):
        Plan.from_json(3)
