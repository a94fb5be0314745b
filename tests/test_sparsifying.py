"""The five lines of the README, on each base optimizer, with nothing else to know."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mirrormask as mm
from mirrormask.errors import MirrormaskError
from mirrormask.geometry import Factors, ScaledMirror


def classification() -> tuple[torch.Tensor, torch.Tensor]:
    """512 points in 20 dimensions, of which 3 decide the class."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(512, 20, generator=generator)
    return inputs, (inputs[:, 3] + inputs[:, 7] * inputs[:, 11].sign() > 0).long()


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2))


BASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.0),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=3e-3),
}


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("method", mm.METHODS)
def test_a_problem_with_three_features_survives_a_cut_to_half(kind: str, method: str) -> None:
    inputs, labels = classification()
    model = build()
    optimizer = BASES[kind](model.parameters())
    optimizer = mm.sparsify(optimizer, model, sparsity=0.5, steps=150, method=method)
    for step in range(150):
        rows = slice(64 * (step % 8), 64 * (step % 8) + 64)
        loss = nn.functional.cross_entropy(model(inputs[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    report = optimizer.finalize()
    assert report.zeros == report.asked_zeros == 704
    accuracy = (model(inputs).argmax(1) == labels).float().mean()
    # Where the strength decides, its default cannot suit every problem.
    assert accuracy > (0.85 if mm.METHODS[method].reaches == "mask" else 0.7)


def test_default_method_is_pilot() -> None:
    model = build()
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer = mm.sparsify(base, model, sparsity=0.5, steps=3)
    assert optimizer.method == "pilot"
    assert isinstance(optimizer.recipe.geometry, ScaledMirror)


def test_a_recipe_of_ones_own_is_called_custom() -> None:
    model = build()
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    recipe = mm.Recipe(geometry=Factors(beta=0.5))
    optimizer = mm.sparsify(base, model, sparsity=0.5, steps=3, method=recipe)
    assert (optimizer.method, optimizer.recipe) == ("custom", recipe)
    assert optimizer.finalize().method == "custom"


def test_wrapping_changes_the_weights_by_rounding_alone() -> None:
    model = build()
    before = [p.detach().clone() for p in model.parameters()]
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    mm.sparsify(base, model, sparsity=0.5, steps=3)
    for parameter, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.detach(), old, rtol=4 * 2**-23, atol=0)


def test_include_and_exclude_reach_the_selection() -> None:
    model = build()
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer = mm.sparsify(base, model, sparsity=0.5, steps=3, include="0", exclude="2")
    report = optimizer.finalize()
    assert [tensor.name for tensor in report.tensors] == ["0.weight"]
    assert report.other_weights == 64 + 128 + 2


def test_all_errors_share_one_base() -> None:
    with pytest.raises(MirrormaskError):
        mm.sparsify(None, build(), sparsity=0.5, steps=3)
    with pytest.raises(ValueError, match=r"sparsity=2 "):  # and are what Python code expects
        model = build()
        mm.sparsify(torch.optim.SGD(model.parameters(), lr=0.1), model, sparsity=2, steps=3)
