"""The networks that benchmarks of deployment and of live weights are run on."""

from __future__ import annotations

import torch
from torch import nn

from mirrormask.study.models import build
from mirrormask.study.resnet import BasicBlock

SMALL_NETS = ("mlp", "mlp-3x1024", "cnn", "cnn-small", "resnet20")


def cut(model: nn.Module, sparsity: float) -> nn.Module:
    """Zero a random share of every weight of two or more dimensions."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.ndim >= 2):
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
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.o(mixed.transpose(1, 2).reshape(x.shape))
        out: torch.Tensor = x + self.down(nn.functional.gelu(self.up(self.norm2(x))))
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


def is_dead(model: nn.Module, x: torch.Tensor) -> bool:
    """Tell whether random zeros have cut every path through a network: nothing is left to time."""
    with torch.inference_mode():
        return torch.equal(model.eval()(x), model(2 * x + 1))
