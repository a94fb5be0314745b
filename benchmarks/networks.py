"""The networks that benchmarks of deployment and of live weights are run on."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from mirrormask.study.models import build
from mirrormask.study.resnet import BasicBlock

SMALL_NETS = ("mlp", "mlp-3x1024", "cnn", "cnn-small", "resnet20")


def cut(model: nn.Module, sparsity: float) -> nn.Module:
    """Zero a random share of every weight of two or more dimensions, but not of depthwise ones."""
    generator = torch.Generator().manual_seed(0)
    spared = {id(m.weight) for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1}
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.ndim >= 2 and id(p) not in spared):
            weight.masked_fill_(torch.rand(weight.shape, generator=generator) < sparsity, 0.0)
    return model.eval()


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 1024))


class Block(nn.Module):
    """A pre-norm transformer block with separate projections, as most libraries write it."""

    def __init__(self, width: int = 512, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [n, tokens, width] to the same shape."""
        y = self.norm1(x)
        q, k, v = (
            layer(y).reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.o(mixed.transpose(1, 2).reshape(x.shape))
        out: torch.Tensor = x + self.down(functional.gelu(self.up(self.norm2(x))))
        return out


class ImageNetResNet18(nn.Module):
    """ResNet-18 with the stem for images of 224x224 (He et al. 2016, arXiv 1512.03385, table 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.norm, self.pool = nn.BatchNorm2d(64), nn.MaxPool2d(3, stride=2, padding=1)
        blocks, before = [], 64
        for after in (64, 128, 256, 512):
            blocks.append(BasicBlock(before, after, stride=1 if after == 64 else 2))
            blocks.append(BasicBlock(after, after, stride=1))
            before = after
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(512, 1000)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map [n, 3, 224, 224] to class scores."""
        x = self.pool(torch.relu(self.norm(self.conv(images))))
        out: torch.Tensor = self.head(self.blocks(x).mean(dim=(2, 3)))
        return out


class Gated(nn.Module):
    """A MobileNetV3 block: expand, depthwise, squeeze and excite, project (arXiv 1905.02244)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        wide = 4 * before
        self.up, self.norm1 = nn.Conv2d(before, wide, 1, bias=False), nn.BatchNorm2d(wide)
        self.each = nn.Conv2d(wide, wide, 3, stride=stride, padding=1, groups=wide, bias=False)
        self.norm2, self.norm3 = nn.BatchNorm2d(wide), nn.BatchNorm2d(after)
        self.squeeze, self.excite = nn.Conv2d(wide, wide // 4, 1), nn.Conv2d(wide // 4, wide, 1)
        self.down = nn.Conv2d(wide, after, 1, bias=False)
        self.same = before == after and stride == 1
        # Cut weights make signals weaker; without this nothing would arrive at the end.
        for norm in (self.norm1, self.norm2, self.norm3):
            nn.init.constant_(norm.weight, 6.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [n, before, h, w] to [n, after, h / stride, w / stride]."""
        each = functional.hardswish(self.norm1(self.up(x)))
        each = functional.hardswish(self.norm2(self.each(each)))
        gate = self.excite(torch.relu(self.squeeze(each.mean((2, 3), keepdim=True))))
        y: torch.Tensor = self.norm3(self.down(each * functional.hardsigmoid(gate)))
        return x + y if self.same else y


class GatedNet(nn.Module):
    """Eight such blocks for images of 96x96: every operator has a step."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, stride=2, padding=1)
        widths = (24, 24, 40, 40, 80, 80, 112, 160, 160)
        strides = (1, 2, 1, 2, 1, 1, 2, 1)
        pairs = zip(widths, widths[1:], strides, strict=False)
        self.blocks = nn.Sequential(*[Gated(*pair) for pair in pairs])
        self.head = nn.Linear(160, 100)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map [n, 3, 96, 96] to class scores."""
        x = self.blocks(functional.hardswish(self.stem(images)))
        scores: torch.Tensor = self.head(x.mean((2, 3)))
        return scores


class MishNet(nn.Module):
    """A residual network for 32x32 whose activation, Mish, has no step: regions in between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, padding=1)
        widths = (64, 128, 256)
        self.halves = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1)
            for before, after in zip((64, *widths), widths, strict=False)
        )
        self.first, self.second = (
            nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in widths)
            for _ in range(2)
        )
        self.head = nn.Linear(256, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map [n, 3, 32, 32] to class scores."""
        x = functional.mish(self.stem(images))
        for half, one, two in zip(self.halves, self.first, self.second, strict=True):
            x = functional.mish(half(x))
            x = functional.mish(x + two(functional.mish(one(x))))
        scores: torch.Tensor = self.head(x.mean((2, 3)))
        return scores


class Reader(nn.Module):
    """Six encoder layers of MiniLM's size behind token embeddings, with a padding mask."""

    def __init__(self, width: int = 384, heads: int = 12, tokens: int = 64) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(5000, width), nn.Embedding(tokens, width)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, activation="gelu", batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)

    def forward(self, tokens: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        """Map tokens and what of them is padding, both [n, length], to [n, length, width]."""
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
        states: torch.Tensor = self.layers(x, src_key_padding_mask=padding)
        return states


def sentence(length: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one input of a :class:`Reader`, of which the last quarter is padding."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 5000, (1, length), generator=generator)
    return tokens, (torch.arange(length) >= length * 3 // 4)[None]


def conv(width: int, size: int) -> nn.Module:
    return nn.Conv2d(width, width, size, padding=size // 2)


def models() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Return models with the shape of one input; one of them has nothing sparse."""
    found: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
        "wide mlp 95 %": (cut(mlp(), 0.95), (1024,)),
        "wide mlp dense": (mlp(), (1024,)),
        "wide mlp 70 %": (cut(mlp(), 0.7), (1024,)),
        "block 90 %": (cut(Block(), 0.9), (16, 512)),
        "encoder layer 90 %": (
            cut(nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True), 0.9),
            (16, 256),
        ),
    }
    for name in SMALL_NETS:
        channels, size = (3, 32) if name.startswith("resnet") else (1, 28)
        model = build(name, in_channels=channels, image_size=size, num_classes=10)
        found[f"{name} 95 %"] = (cut(model, 0.95), (channels, size, size))
    return found


def is_dead(model: nn.Module, example: tuple[torch.Tensor, ...]) -> bool:
    """Tell whether random zeros have cut every path through a network: nothing is left to time."""
    first, *others = example
    other = 2 * first + 1 if first.is_floating_point() else first.flip(-1)
    with torch.inference_mode():
        return torch.equal(model.eval()(*example), model(other, *others))
