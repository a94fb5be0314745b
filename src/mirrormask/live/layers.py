"""Layers while their live weights train: their weight is the vector of those that live."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from mirrormask.deploy.sparse_conv import geometry_of
from mirrormask.errors import CheckpointError
from mirrormask.live.conv_product import ConvProduct
from mirrormask.live.pattern import Pattern
from mirrormask.live.product import LinearProduct

Layer = nn.Linear | nn.Conv1d | nn.Conv2d
Product = LinearProduct | ConvProduct


class _Live(nn.Module):
    """A layer whose parameter ``weight`` is ``[live]``, turned in place by :func:`take_over`.

    State dicts hold the whole weight, so that checkpoints are those of the plain layer.
    """

    product: Product
    weight: Tensor
    bias: Any  # Tensor | None; torch's stubs do not agree which

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, input: Tensor) -> Tensor:
        """Return what the plain layer would, to rounding."""
        return self.product(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Describe sizes and how many weights live."""
        return f"{super().extra_repr()}, live={self.product.pattern.columns.numel()}"

    def _save_to_state_dict(
        self,
        destination: dict[str, Any],
        prefix: str,
        keep_vars: bool,  # noqa: FBT001
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "weight"] = self.product.pattern.spread(self.weight.detach())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        whole, pattern = state_dict.get(prefix + "weight"), self.product.pattern
        if isinstance(whole, Tensor) and tuple(whole.shape) == pattern.shape:
            values = pattern.gather(whole)
            if int(torch.count_nonzero(whole)) > int(torch.count_nonzero(values)):
                raise CheckpointError(
                    f"{prefix}weight has weights where this layer has none: load it before "
                    "mirrormask.live.go_live"
                )
            state_dict = {**state_dict, prefix + "weight": values}
        super()._load_from_state_dict(state_dict, prefix, *rest)


class LiveLinear(_Live, nn.Linear):
    """``nn.Linear`` with a weight ``[live]`` instead of ``[out, in]``."""


class LiveConv2d(_Live, nn.Conv2d):
    """``nn.Conv2d`` with a weight ``[live]`` instead of ``[out, in / groups, h, w]``."""


class LiveConv1d(_Live, nn.Conv1d):
    """``nn.Conv1d`` with a weight ``[live]`` instead of ``[out, in / groups, w]``."""


_LIVE = {nn.Linear: LiveLinear, nn.Conv1d: LiveConv1d, nn.Conv2d: LiveConv2d}
_PLAIN = {live: plain for plain, live in _LIVE.items()}
KINDS = tuple(_LIVE)
"""The layers that can go live; classes derived from them may compute anything."""


def product_of(layer: Layer, kept: Tensor) -> Product:
    """Return the product of a layer whose weights live where a mask of their shape is True."""
    if isinstance(layer, nn.Linear):
        return LinearProduct(Pattern.of(kept))
    geometry = geometry_of(layer)
    return ConvProduct(Pattern.of_kernel(kept, geometry), geometry)


def take_over(layer: Layer, product: Product) -> None:
    """Turn a layer, in place, into one of live weights; its parameter follows apart."""
    layer.__class__ = _LIVE[type(layer)]
    cast(_Live, layer).product = product


def give_back(layer: Layer) -> None:
    """Turn it back into a plain layer."""
    del cast(_Live, layer).product
    layer.__class__ = _PLAIN[type(layer)]
