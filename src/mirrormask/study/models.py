"""Small networks for studies: plain ``torch.nn`` modules, built by name.

:data:`MODELS` lists the names; :func:`build` makes one for given sizes, :func:`build_for` for a
data set. All weights of convolutions and linear layers start Kaiming normal (He et al. 2015, arXiv
1502.01852), as in the paper's experiments, and biases start at zero; the transformer starts in its
own way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import nn

from mirrormask.errors import ArgumentError
from mirrormask.names import unknown_name
from mirrormask.study.data import DATASETS, Dataset, Kind
from mirrormask.study.resnet import ResNet18, ResNet20
from mirrormask.study.resnet50 import ResNet50
from mirrormask.study.small_nets import MLP, ConvNet, SignalConvNet, SmallConvNet
from mirrormask.study.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """How one named model is made: a line for people and a function for the program.

    Attributes:
        summary: One line for help texts and tables.
        make: Takes in_channels, image_size and num_classes, in this order.
        kind: What it is given.
        smallest_image: Smallest image size (or length) that the model accepts.
        own_start: Whether the model draws its own first weights.
    """

    summary: str
    make: Callable[[int, int, int], nn.Module]
    kind: Kind = "images"
    smallest_image: int = 1
    own_start: bool = False


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
        "cnn-small": ModelRecord(
            summary="three strided convolutions with BatchNorm and a linear layer, 34k at 28x28",
            make=SmallConvNet,
        ),
        "cnn1d": ModelRecord(
            summary="three strided 1-D convolutions and a linear layer, 5k for 40 values",
            make=SignalConvNet,
            kind="signals",
            smallest_image=8,
        ),
        "transformer": ModelRecord(
            summary="two causal blocks of width 64, 117k for 96 characters and 64 of context",
            make=lambda channels, size, classes: Transformer(vocabulary=classes, context=size),
            kind="text",
            own_start=True,
        ),
        "resnet20": ModelRecord(
            summary="ResNet-20 (He et al. 2016), projection shortcuts, 272k parameters",
            make=lambda channels, size, classes: ResNet20(channels, classes),
        ),
        "resnet18-cifar": ModelRecord(
            summary="ResNet-18 with a stem for small images, 11.2M parameters",
            make=lambda channels, size, classes: ResNet18(channels, classes),
        ),
        "resnet50": ModelRecord(
            summary="ResNet-50 for ImageNet, 25.6M parameters, torchvision's names of weights",
            make=lambda channels, size, classes: ResNet50(channels, classes),
            smallest_image=32,
        ),
    }
)


def build(name: str, *, in_channels: int, image_size: int, num_classes: int) -> nn.Module:
    """Make a model by name, freshly initialised from torch's global random state.

    Args:
        name: One of :data:`MODELS`.
        in_channels: Channels of an image or signal, 1 or more; of no meaning for text.
        image_size: Height and width of an image in pixels, or the length of a signal or text.
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
    if not record.own_start:
        initialise(model)
    return model


def build_for(name: str, data: Dataset) -> nn.Module:
    """Make a model by name that fits a data set, as :func:`build` does.

    Raises:
        ArgumentError: No such model, or it is not for data of this kind or size.

    Example:
        >>> import torch
        >>> from mirrormask.study.data import load
        >>> build_for("cnn1d", load("mnist1d"))(torch.rand(3, 1, 40)).shape
        torch.Size([3, 10])
    """
    check_fit(name, data.name)
    return build(
        name,
        in_channels=data.in_channels,
        image_size=data.image_size,
        num_classes=data.num_classes,
    )


def check_fit(model: str, data: str) -> None:
    """Refuse a model that is not for data of this kind, by their names alone.

    Raises:
        ArgumentError: One of the names is unknown, or the two do not fit.

    Example:
        >>> check_fit("mlp", "stdlib-text")
        Traceback (most recent call last):
        mirrormask.errors.ArgumentError: The model 'mlp' is for images but 'stdlib-text' holds text:
        use 'transformer'.
    """
    for kind, name, known in (("data", data, DATASETS), ("model", model, MODELS)):
        if name not in known:
            raise ArgumentError(unknown_name(kind, name, known))
    needed = DATASETS[data].kind
    if MODELS[model].kind != needed:
        fitting = " or ".join(repr(name) for name in MODELS if MODELS[name].kind == needed)
        raise ArgumentError(
            f"The model {model!r} is for {MODELS[model].kind} but {data!r} holds {needed}: use "
            f"{fitting}."
        )


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
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
