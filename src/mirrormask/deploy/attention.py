"""Open torch's multi-head attention, whose weights are hidden from layers, into linear layers.

``nn.MultiheadAttention`` multiplies with its weights directly, and ``nn.TransformerEncoderLayer``
hands all its weights to one fused function in evaluation mode. Neither leaves a place for a sparse
layer, so both are opened first; whether that pays is then measured like everything else.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from mirrormask.deploy.model_graph import has_hooks, replace_module


class OpenAttention(nn.Module):
    """``nn.MultiheadAttention`` in evaluation mode, made of four linear layers.

    It takes the same arguments and returns the same pair, attention output and weights.
    """

    # Read by nn.TransformerEncoderLayer, which then leaves its fused path.
    in_proj_bias = None
    _qkv_same_embed_dim = False

    def __init__(self, closed: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, self.batch_first = closed.num_heads, closed.batch_first
        width = closed.embed_dim
        weights = closed.in_proj_weight.detach().chunk(3)
        biases = (None,) * 3 if closed.in_proj_bias is None else closed.in_proj_bias.chunk(3)
        self.query, self.key, self.value = (
            _linear(weight, bias) for weight, bias in zip(weights, biases, strict=True)
        )
        self.out_proj = _linear(closed.out_proj.weight, closed.out_proj.bias)
        self.embed_dim = width
        self.eval()

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,  # noqa: FBT001
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,  # noqa: FBT001
        is_causal: bool = False,  # noqa: FBT001
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend; shapes as in ``nn.MultiheadAttention``."""
        batched = query.ndim == 3
        q, k, v = (
            self._heads(layer(x), batched)
            for layer, x in ((self.query, query), (self.key, key), (self.value, value))
        )
        mask = self._mask(attn_mask, key_padding_mask, q)
        weights: torch.Tensor | None = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
            weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
            mixed = weights @ v
            weights = weights.mean(dim=1) if average_attn_weights else weights
            weights = weights if batched else weights[0]
        else:
            mixed = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        rows = mixed.transpose(1, 2).flatten(2)
        if not batched:
            rows = rows[0]
        elif not self.batch_first:
            rows = rows.transpose(0, 1)
        return self.out_proj(rows), weights

    def _heads(self, x: torch.Tensor, batched: bool) -> torch.Tensor:  # noqa: FBT001
        """Return ``[n, heads, length, width of a head]``."""
        if not batched:
            x = x[None]
        elif not self.batch_first:
            x = x.transpose(0, 1)
        heads = x.reshape(*x.shape[:-1], self.num_heads, -1)
        return heads.transpose(1, 2)

    def _mask(
        self, attn: torch.Tensor | None, padding: torch.Tensor | None, q: torch.Tensor
    ) -> torch.Tensor | None:
        """Return both masks as one to be added to the scores."""
        total: torch.Tensor | None = None
        if attn is not None:
            total = _additive(attn, q)
            if total.ndim == 3:
                total = total.reshape(-1, self.num_heads, *total.shape[1:])
        if padding is not None:
            added = _additive(padding.reshape(-1, 1, 1, padding.shape[-1]), q)
            total = added if total is None else total + added
        return total


def _additive(mask: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    if mask.dtype != torch.bool:
        return mask.to(q.dtype)
    return torch.zeros_like(mask, dtype=q.dtype).masked_fill_(mask, float("-inf"))


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear


def open_attention(model: nn.Module, *, min_sparsity: float) -> int:
    """Open, in place, every attention whose weights have enough zeros; return how many.

    Encoder layers leave their fused path, whether or not their attention was opened, because
    their linear layers may become sparse.
    """
    opened = 0
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.TransformerEncoderLayer):
            # Torch's own sign that the layer does not fit its fused function.
            module.activation_relu_or_gelu = 0
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
        if _can_open(module, min_sparsity):
            assert isinstance(module, nn.MultiheadAttention)
            replace_module(model, name, OpenAttention(module))
            opened += 1
    return opened


def _can_open(module: nn.Module, min_sparsity: float) -> bool:
    if type(module) is not nn.MultiheadAttention or has_hooks(module):
        return False
    if not module._qkv_same_embed_dim or module.bias_k is not None or module.add_zero_attn:
        return False
    weight = module.in_proj_weight
    return int(torch.count_nonzero(weight)) <= (1.0 - min_sparsity) * weight.numel()
