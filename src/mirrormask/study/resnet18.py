"""ResNet-18 for small images: the stem of CIFAR in place of that of ImageNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from mirrormask.study.resnet import BasicBlock


class ResNet18(nn.Module):
    """Eight residual blocks of two 3x3 convolutions, behind a 3x3 convolution of stride 1.

    Widths 64 to 512 (He et al. 2016, arXiv 1512.03385, table 1). The stem neither strides nor
    pools, as is usual for images of 32x32: 11,220,132 parameters for 3 channels and 100 classes.

    Args:
        in_channels: Channels of an image.
        num_classes: Outputs.

    Shape:
        [n, in_channels, h, w] → [n, num_classes], for any h and w.

    Example:
        >>> ResNet18(in_channels=3, num_classes=100)(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 100])
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(64)
        blocks: list[nn.Module] = []
        before = 64
        for after, first_stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            for stride in (first_stride, 1):
                blocks.append(BasicBlock(before, after, stride))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(before, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute class scores."""
        images = images.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.blocks(relu(self.norm(self.conv(images))))
        scores: Tensor = self.head(features.mean(dim=(2, 3)))
        return scores
