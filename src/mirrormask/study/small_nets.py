"""The small networks of studies: for flat images, images and signals."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """Stack linear layers with ReLU between them, on flattened images.

    With ``hidden=(300, 100)`` on 28x28 images and ten classes it is LeNet-300-100 (LeCun et al.
    1998) with ReLU: 266,610 parameters.

    Args:
        in_features: Values in one image.
        hidden: Width of each hidden layer.
        num_classes: Outputs.

    Shape:
        [n, c, h, w] or [n, c*h*w] → [n, num_classes].

    Example:
        >>> MLP(784, (300, 100), 10)(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(self, in_features: int, hidden: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        widths = (in_features, *hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Compute class scores."""
        scores: Tensor = self.layers(images)
        return scores


class ConvNet(nn.Module):
    """Three convolutions with BatchNorm, ReLU and pooling, then two linear layers.

    Each 3x3 convolution is followed by a 2x2 maximum, so that an image shrinks by 8. On 28x28 grey
    images with ten classes it has 199,402 parameters, most of them in the first linear layer: one
    epoch over 10,000 images takes a few seconds on one core.

    Args:
        in_channels: Channels of an image.
        image_size: Height and width of an image, 8 or more.
        num_classes: Outputs.

    Shape:
        [n, in_channels, image_size, image_size] → [n, num_classes].

    Example:
        >>> ConvNet(in_channels=1, image_size=28, num_classes=10)(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(self, in_channels: int, image_size: int, num_classes: int) -> None:
        super().__init__()
        widths = (in_channels, 24, 48, 96)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(
            nn.Linear(widths[-1] * (image_size // 8) ** 2, 168),
            nn.ReLU(),
            nn.Linear(168, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Compute class scores."""
        # Channels last in memory makes BatchNorm and pooling 1.5 times as fast on a CPU. A clone,
        # because a conversion would leave one-channel images, which are both at once, as they are.
        images = images.clone(memory_format=torch.channels_last)
        scores: Tensor = self.head(self.features(images))
        return scores


class SmallConvNet(nn.Module):
    """Three strided convolutions with BatchNorm and ReLU, then one linear layer.

    On 28x28 grey images with ten classes it has 33,658 parameters and takes about a third of the
    time of :class:`ConvNet`.

    Args:
        in_channels: Channels of an image.
        image_size: Height and width of an image.
        num_classes: Outputs.

    Shape:
        [n, in_channels, image_size, image_size] → [n, num_classes].

    Example:
        >>> model = SmallConvNet(in_channels=1, image_size=28, num_classes=10)
        >>> model(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(self, in_channels: int, image_size: int, num_classes: int) -> None:
        super().__init__()
        widths = (in_channels, 16, 32, 64)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        # Each stride of 2 halves the size and rounds up.
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(widths[-1] * (-(-image_size // 8)) ** 2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute class scores."""
        # As in ConvNet.
        images = images.clone(memory_format=torch.channels_last)
        scores: Tensor = self.head(self.features(images))
        return scores


class SignalConvNet(nn.Module):
    """Three strided 1-D convolutions of 25 channels with ReLU, then one linear layer.

    The convolutional network of MNIST-1D's authors (Greydanus & Kobak 2024, arXiv 2011.14439):
    5,210 parameters for signals of 40 values and ten classes.

    Args:
        in_channels: Channels of a signal.
        length: Values in a channel, 8 or more.
        num_classes: Outputs.

    Shape:
        [n, in_channels, length] → [n, num_classes].

    Example:
        >>> SignalConvNet(in_channels=1, length=40, num_classes=10)(torch.rand(2, 1, 40)).shape
        torch.Size([2, 10])
    """

    def __init__(self, in_channels: int, length: int, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, width = in_channels, 25
        for kernel in (5, 3, 3):
            layers += [nn.Conv1d(before, width, kernel, stride=2, padding=1), nn.ReLU()]
            before, length = width, (length + 2 - kernel) // 2 + 1
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(width * length, num_classes)

    def forward(self, signals: Tensor) -> Tensor:
        """Compute class scores."""
        scores: Tensor = self.head(self.features(signals))
        return scores
