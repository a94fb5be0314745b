"""What going live changed, layer by layer, also where nothing was gained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LiveLayer:
    """One targeted tensor: whether it trains on its live weights now, and why.

    ``dense_ms`` and ``live_ms`` are medians of a forward and backward pass of the layer, or None
    where nothing was timed. Bytes are those of the weight, its latents and the base optimizer's
    buffers; of a live one those of its pattern, too.
    """

    name: str
    sparsity: float
    live: bool
    reason: str
    dense_ms: float | None
    live_ms: float | None
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, kw_only=True)
class LiveReport:
    """What :func:`mirrormask.live.go_live` found and did."""

    layers: tuple[LiveLayer, ...]

    @property
    def live(self) -> tuple[str, ...]:
        """Names of the tensors that train on live weights now."""
        return tuple(layer.name for layer in self.layers if layer.live)

    @property
    def bytes_before(self) -> int:
        """Bytes that training kept for all targeted tensors."""
        return sum(layer.bytes_before for layer in self.layers)

    @property
    def bytes_after(self) -> int:
        """Bytes that it keeps now."""
        return sum(layer.bytes_after for layer in self.layers)

    def __str__(self) -> str:
        lines = [
            f"{layer.name} ({layer.sparsity:.1%} zeros): "
            f"{'live' if layer.live else 'as it was'}, {layer.reason}"
            for layer in self.layers
        ]
        total = f"{self.bytes_before:,} -> {self.bytes_after:,} bytes in training"
        return "\n".join([*lines, f"{len(self.live)} of {len(lines)} live, {total}"])
