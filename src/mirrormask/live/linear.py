"""``nn.Linear`` while its live weights train: its weight is the vector of those that live."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from mirrormask.deploy.sparse_linear import OutputLayout
from mirrormask.errors import CheckpointError
from mirrormask.live.pattern import Pattern
from mirrormask.live.product import live_linear


class LiveLinear(nn.Linear):
    """A linear layer whose parameter ``weight`` is ``[live]`` instead of ``[out, in]``.

    It is a linear layer that was turned in place by :func:`take_over` and goes back by
    :func:`give_back`. State dicts hold the whole matrix, so that checkpoints are those of the
    plain layer. ``output_layout`` is ``"columns"`` where what it puts out goes to another layer of
    live weights and nowhere else.
    """

    pattern: Pattern
    output_layout: OutputLayout

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, input: Tensor) -> Tensor:
        """Return ``x W^T + b``."""
        return live_linear(
            input, self.weight, self.bias, self.pattern, output_layout=self.output_layout
        )

    def extra_repr(self) -> str:
        """Describe sizes and how many weights live."""
        return f"{super().extra_repr()}, live={self.pattern.columns.numel()}"

    def _save_to_state_dict(
        self,
        destination: dict[str, Any],
        prefix: str,
        keep_vars: bool,  # noqa: FBT001
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "weight"] = self.pattern.spread(self.weight.detach())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        whole = state_dict.get(prefix + "weight")
        if isinstance(whole, Tensor) and tuple(whole.shape) == self.pattern.shape:
            values = self.pattern.gather(whole)
            if int(torch.count_nonzero(whole)) > int(torch.count_nonzero(values)):
                raise CheckpointError(
                    f"{prefix}weight has weights where this layer has none: load it before "
                    "mirrormask.live.go_live"
                )
            state_dict = {**state_dict, prefix + "weight": values}
        super()._load_from_state_dict(state_dict, prefix, *rest)


def take_over(layer: nn.Linear, pattern: Pattern, output_layout: OutputLayout) -> None:
    """Turn a linear layer, in place, into one of live weights; its parameter follows apart."""
    layer.__class__ = LiveLinear
    live = cast(LiveLinear, layer)
    live.pattern, live.output_layout = pattern, output_layout


def give_back(layer: nn.Linear) -> None:
    """Turn it back into a plain linear layer."""
    live = cast(LiveLinear, layer)
    del live.pattern, live.output_layout
    layer.__class__ = nn.Linear
