"""What a layer is timed on is what it gets."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mirrormask.kernels import kernel_status, kernels
from mirrormask.live.layers import product_of
from mirrormask.live.trial import inputs_of_layers, try_layer

needs_kernels = pytest.mark.skipif(kernels() is None, reason=kernel_status().reason)


def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(),
        nn.Linear(4 * 4 * 5, 7),
    )  # fmt: skip


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_inputs_are_seen_with_their_layout_and_need_of_a_gradient(form):
    model = net().train()
    x = torch.randn(6, 3, 8, 9).contiguous(memory_format=form)
    found = inputs_of_layers(model, x)
    assert {name: tuple(like.shape) for name, like in found.items()} == {
        "0": (6, 3, 8, 9),
        "3": (6, 8, 6, 7),
        "5": (6, 80),
    }
    assert all(like.is_meta for like in found.values())
    assert [like.requires_grad for like in found.values()] == [False, True, True]
    assert found["0"].is_contiguous(memory_format=form)
    assert found["3"].is_contiguous(memory_format=form)
    assert all(module.training for module in model.modules())
    assert model[1].num_batches_tracked == 0
    assert not any(module._forward_pre_hooks for module in model.modules())


@needs_kernels
def test_both_ways_are_timed_on_such_an_input():
    model = net()
    found = inputs_of_layers(model, torch.randn(6, 3, 8, 9))
    for name, like in found.items():
        layer = model.get_submodule(name)
        product = product_of(layer, torch.rand(layer.weight.shape) < 0.2)
        trial = try_layer(layer, product, like)
        assert trial.dense_ms > 0
        assert trial.live_ms > 0
        assert layer.weight.grad is None
    assert not try_layer(layer, product, None).pays
    assert try_layer(layer, product, None).reason == "not called with this input"
