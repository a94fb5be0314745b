"""A small causal transformer that predicts the next token."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention


class Block(nn.Module):
    """Causal attention and a two-layer network, each on normalised input, added to its input.

    Source: Vaswani et al. 2017 (arXiv 1706.03762); normalisation first as in Radford et al. 2019.

    Args:
        width: Features of a token.
        heads: Parts that attention works on side by side; divides ``width``.

    Shape:
        [n, length, width] → [n, length, width].

    Example:
        >>> Block(8, heads=2)(torch.rand(1, 5, 8)).shape
        torch.Size([1, 5, 8])
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block."""
        n, length, width = x.shape
        parts = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mix(attended.transpose(1, 2).reshape(n, length, width))
        y: Tensor = x + self.narrow(gelu(self.widen(self.norm2(x))))
        return y


class Transformer(nn.Module):
    """Score the next token at each place of a text from those up to it.

    Weights start normal with deviation 0.02, those that end a residual branch smaller by the square
    root of the number of branches, and biases at zero (Radford et al. 2019, section 2.3). With 96
    tokens and the default sizes it has 116,480 parameters.

    Args:
        vocabulary: Different tokens.
        context: Longest text in tokens.
        width: Features of a token.
        heads: Of each attention.
        layers: Blocks.
        tied: Whether the scores use the embedding itself as their weights; a tied head stays dense
            with the embedding unless it is named.

    Shape:
        [n, length] int64 → [n, length, vocabulary], length at most ``context``.

    Example:
        >>> Transformer(vocabulary=10, context=8)(torch.zeros(2, 8, dtype=torch.int64)).shape
        torch.Size([2, 8, 10])
    """

    def __init__(
        self,
        vocabulary: int,
        context: int,
        *,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.place = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.head.weight = self.token.weight
        self._initialise(layers)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute scores of the next token at each place."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.blocks(self.token(tokens) + self.place(places))
        scores: Tensor = self.head(self.norm(x))
        return scores

    def _initialise(self, layers: int) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                branch_end = name.endswith((".mix", ".narrow"))
                deviation = 0.02 / (2 * layers) ** 0.5 if branch_end else 0.02
                nn.init.normal_(module.weight, std=deviation)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
