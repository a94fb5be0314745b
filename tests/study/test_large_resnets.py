"""The large ResNets have the published sizes, strides and names, and start as they should."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from mirrormask.study.models import build
from mirrormask.study.resnet import ResNet18
from mirrormask.study.resnet50 import Bottleneck, ResNet50


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def feature_sizes(model: nn.Module, parts: list[nn.Module], size: int) -> list[tuple[int, int]]:
    sizes: list[tuple[int, int]] = []
    for part in parts:
        part.register_forward_hook(lambda m, i, output: sizes.append(tuple(output.shape[1:3])))
    with torch.no_grad():
        model.eval()(torch.rand(1, 3, size, size))
    return sizes


def test_resnet50_has_torchvision_s_size_and_names():
    model = ResNet50(3, 1000)
    assert count(model) == 25_557_032
    names = list(model.state_dict())
    assert len(names) == 320  # 161 parameters and 53 x 3 buffers, as in torchvision
    assert {"conv1.weight", "bn1.running_var", "layer3.5.conv2.weight", "fc.bias"} <= set(names)
    shortcuts = {name for name in names if re.search(r"downsample\.0", name)}
    assert shortcuts == {f"layer{i}.0.downsample.0.weight" for i in (1, 2, 3, 4)}
    assert model.layer2[0].conv2.weight.shape == (128, 128, 3, 3)
    assert model.layer4[2].conv3.weight.shape == (2048, 512, 1, 1)


def test_resnet50_halves_where_imagenet_s_table_says():
    model = ResNet50(3, 10)
    parts = [model.conv1, model.maxpool, model.layer1, model.layer2, model.layer3, model.layer4]
    sizes = feature_sizes(model, parts, 64)
    assert sizes == [(64, 32), (64, 16), (256, 16), (512, 8), (1024, 4), (2048, 2)]


def test_resnet18_keeps_small_images_whole_and_has_its_published_size():
    model = ResNet18(3, 100)
    # 11,173,962 for ten classes, as published with this stem, and 90 classes more.
    assert count(model) == 11_173_962 + 90 * 513
    sizes = feature_sizes(model, [model.conv, *model.blocks], 32)
    assert sizes == [(64, 32)] * 3 + [(128, 16)] * 2 + [(256, 8)] * 2 + [(512, 4)] * 2


def test_a_bottleneck_with_a_zero_last_norm_is_its_shortcut():
    model = ResNet50(3, 10, zero_last=True)
    block = model.layer1[1].eval()
    x = torch.rand(1, 256, 8, 8)
    assert torch.equal(block(x), x)
    plain = Bottleneck(256, 64, stride=1).eval()
    assert not torch.equal(plain(x), x)


@pytest.mark.parametrize("name", ["resnet18-cifar", "resnet50"])
def test_they_are_built_by_name_with_kaiming_starts_and_every_weight_learns(name):
    torch.manual_seed(0)
    model = build(name, in_channels=3, image_size=32, num_classes=7)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach()
            expected = (2 / weight[0].numel()) ** 0.5
            assert weight.std() == pytest.approx(expected, rel=5 / (2 * weight.numel()) ** 0.5)
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
