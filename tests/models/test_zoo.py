"""Networks of torchvision and timm, where those are installed and work with this torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import mirrormask as mm

SIZE, CLASSES, STEPS = 64, 5, 6


def of_torchvision(name: str) -> nn.Module:
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # RuntimeError: of another torch's version
        pytest.skip(f"torchvision: {error}")
    model: nn.Module = models.get_model(name, num_classes=CLASSES)
    return model


def of_timm(name: str) -> nn.Module:
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"timm: {error}")
    return timm.create_model(name, num_classes=CLASSES)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (of_torchvision, "mobilenet_v3_small"),
        (of_torchvision, "resnet18"),
        (of_timm, "efficientnet_lite0"),
        (of_timm, "convnext_atto"),
    ],
)
def test_they_end_exactly_as_sparse_as_asked(make: Callable[[str], nn.Module], name: str) -> None:
    torch.manual_seed(0)
    model = make(name)
    names = list(model.state_dict())
    optimizer = mm.sparsify(
        torch.optim.AdamW(model.parameters(), lr=1e-3), model, sparsity=0.9, steps=STEPS
    )
    images, labels = torch.randn(4, 3, SIZE, SIZE), torch.arange(4)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    report = optimizer.finalize()
    assert report.zeros == report.asked_zeros == int(0.9 * report.weights + 0.5)
    assert list(model.state_dict()) == names
    assert model.eval()(images).isfinite().all()
