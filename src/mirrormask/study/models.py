"""Small networks for studies: plain ``torch.nn`` modules, built by name.

:data:`MODELS` lists the names; :func:`build` makes one for images of a given kind. All weights of
convolutions and linear layers start Kaiming normal (He et al. 2015, arXiv 1502.01852), as in the
paper's experiments, and biases start at zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor, nn

from mirrormask.errors import ArgumentError
from mirrormask.names import unknown_name
from mirrormask.study.resnet import ResNet20


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


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """How one named model is made: a line for people and a function for the program.

    Attributes:
        summary: One line for help texts and tables.
        make: Takes in_channels, image_size and num_classes, in this order.
        smallest_image: Smallest image size that the model accepts, in pixels.
    """

    summary: str
    make: Callable[[int, int, int], nn.Module]
    smallest_image: int = 1


def _mlp(*hidden: int) -> Callable[[int, int, int], nn.Module]:
    return lambda channels, size, classes: MLP(channels * size * size, hidden, classes)


MODELS: Mapping[str, ModelRecord] = MappingProxyType(
    {
        "mlp": ModelRecord(
            summary="LeNet-300-100: two hidden layers with ReLU, 267k parameters at 28x28",
            make=_mlp(300, 100),
        ),
        "mlp-3x1024": ModelRecord(
            summary="three hidden layers of 1,024 with ReLU, 2.9M parameters at 28x28",
            make=_mlp(1024, 1024, 1024),
        ),
        "cnn": ModelRecord(
            summary="three convolutions with BatchNorm and two linear layers, 200k at 28x28",
            make=ConvNet,
            smallest_image=8,
        ),
        "resnet20": ModelRecord(
            summary="ResNet-20 (He et al. 2016), projection shortcuts, 272k parameters",
            make=lambda channels, size, classes: ResNet20(channels, classes),
        ),
    }
)


def build(name: str, *, in_channels: int, image_size: int, num_classes: int) -> nn.Module:
    """Make a model by name, freshly initialised from torch's global random state.

    Args:
        name: One of :data:`MODELS`.
        in_channels: Channels of an image, 1 or more.
        image_size: Height and width of an image in pixels.
        num_classes: Classes to tell apart, 2 or more.

    Returns:
        The model, in training mode, float32, on the CPU.

    Raises:
        ArgumentError: No such model, or a number is out of range for it.

    Example:
        >>> model = build("mlp", in_channels=1, image_size=28, num_classes=10)
        >>> sum(p.numel() for p in model.parameters())
        266610
    """
    record = MODELS.get(name)
    if record is None:
        raise ArgumentError(unknown_name("model", name, MODELS))
    for option, value, least in (
        ("in_channels", in_channels, 1),
        ("image_size", image_size, record.smallest_image),
        ("num_classes", num_classes, 2),
    ):
        if value < least:
            raise ArgumentError(
                f"{option}={value} is too small for the model {name!r}: use {least} or more."
            )
    model = record.make(in_channels, image_size, num_classes)
    initialise(model)
    return model


def initialise(model: nn.Module) -> None:
    """Draw every convolution and linear weight Kaiming normal, in place; zero their biases.

    The standard deviation is sqrt(2 / fan-in). Source: He et al. 2015 (arXiv 1502.01852), eq. 10.

    Example:
        >>> layer = nn.Linear(4, 2)
        >>> initialise(layer)
        >>> layer.bias.tolist()
        [0.0, 0.0]
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
