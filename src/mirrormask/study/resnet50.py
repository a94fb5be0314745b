"""ResNet-50 for ImageNet, with the names of weights that torchvision's has."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution with BatchNorm, added to a shortcut.

    The stride is in the 3x3 convolution, as in torchvision ("ResNet v1.5").

    Args:
        before: Channels that come in.
        width: Channels between; four times as many go out.
        stride: 1 keeps the image size, 2 halves it.

    Example:
        >>> Bottleneck(64, 16, stride=2)(torch.rand(1, 64, 8, 8)).shape
        torch.Size([1, 64, 4, 4])
    """

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = 4 * width
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(y + shortcut)
        return out


class ResNet50(nn.Module):
    """A 7x7 convolution, pooling, sixteen bottleneck blocks in four stages, one linear layer.

    Source: He et al. 2016 (arXiv 1512.03385), table 1. With 3 channels and 1,000 classes it has
    25,557,032 parameters, and a state dict of torchvision's ``resnet50`` loads.

    Args:
        in_channels: Channels of an image.
        num_classes: Outputs.
        zero_last: Start the last BatchNorm of each block at 0, so that every block begins as its
            shortcut (Goyal et al. 2017, arXiv 1706.02677, section 5.1).

    Shape:
        [n, in_channels, h, w] → [n, num_classes], for h and w of 32 or more.

    Example:
        >>> sum(p.numel() for p in ResNet50(in_channels=3, num_classes=1000).parameters())
        25557032
    """

    def __init__(self, in_channels: int, num_classes: int, *, zero_last: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        widths = (64, 128, 256, 512)
        ins = (64, *(4 * width for width in widths))
        self.layer1 = _stage(ins[0], widths[0], blocks=3, stride=1)
        self.layer2 = _stage(ins[1], widths[1], blocks=4, stride=2)
        self.layer3 = _stage(ins[2], widths[2], blocks=6, stride=2)
        self.layer4 = _stage(ins[3], widths[3], blocks=3, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(ins[4], num_classes)
        if zero_last:
            for module in self.modules():
                if isinstance(module, Bottleneck):
                    nn.init.zeros_(module.bn3.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Compute class scores."""
        x = images.contiguous(memory_format=torch.channels_last)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        scores: Tensor = self.fc(self.avgpool(x).flatten(1))
        return scores


def _stage(before: int, width: int, *, blocks: int, stride: int) -> nn.Sequential:
    ins = (before, *(4 * width for _ in range(blocks)))
    return nn.Sequential(
        *(
            Bottleneck(channels, width, stride if number == 0 else 1)
            for number, (channels, _) in enumerate(pairwise(ins))
        )
    )
