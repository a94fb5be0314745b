"""Whether a layer can train on its live weights, and whether that is faster here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from mirrormask.deploy.example_inputs import Inputs, arguments_of, running_on_example
from mirrormask.deploy.timing import interleave
from mirrormask.kernels import kernel_status
from mirrormask.live.compaction import can_compact
from mirrormask.live.pattern import Pattern
from mirrormask.live.product import live_linear
from mirrormask.optimizer.latent_weight import LatentWeight

MIN_GAIN = 1.05
"""Below this a lead may be noise."""

_ROUNDS = 11


@dataclass(frozen=True, kw_only=True)
class LayerTrial:
    """Medians of a forward and backward pass; a layer that was not timed counts as a gain."""

    dense_ms: float | None = None
    live_ms: float | None = None
    gain: float = float("inf")
    reason: str = "not timed"

    @property
    def pays(self) -> bool:
        """Whether the layer should go live."""
        return self.gain >= MIN_GAIN


def why_not(model: nn.Module, layer: nn.Linear | None, weight: LatentWeight) -> str:
    """Return why a weight cannot train on what lives of it, or an empty text."""
    if type(layer) is not nn.Linear:
        return "no nn.Linear"
    uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    kind = layer.weight.dtype, layer.weight.device.type
    reasons = {
        f"no compiled kernels: {kernel_status().reason}": not kernel_status().active,
        f"{kind[0]} on {kind[1]}: the kernels take float32 on the CPU": kind
        != (torch.float32, "cpu"),
        "shared by several layers": uses[id(layer.weight)] > 1,
        "no weight lives": weight.cut is None or bool(weight.cut.all()),
        "its latents are shared by several coordinates": not can_compact(weight),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def batch_rows(model: nn.Module, example: Inputs) -> dict[str, int]:
    """Run the model once, in evaluation mode, and return how many rows each linear layer got.

    Raises:
        ArgumentError: It does not run on the example.
    """
    rows: dict[str, int] = {}
    inputs, keywords = arguments_of(example)
    handles = [
        module.register_forward_hook(_counter(name, rows))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad(), running_on_example():
            model(*inputs, **keywords)
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True
    return rows


def _counter(name: str, rows: dict[str, int]) -> Callable[[nn.Module, Any, Any], None]:
    def count(module: nn.Module, args: Any, output: Tensor) -> None:
        rows.setdefault(name, output.numel() // max(1, output.shape[-1]))

    return count


def try_layer(layer: nn.Linear, pattern: Pattern, rows: int) -> LayerTrial:
    """Time a forward and backward pass of a layer both ways; ``rows`` 0 is: it was not called."""
    if rows == 0:
        return LayerTrial(gain=0.0, reason="not called with this input")
    x = torch.randn(rows, layer.in_features, requires_grad=True)
    grad = torch.randn(rows, layer.out_features)
    dense = layer.weight.detach().clone().requires_grad_(True)
    values = pattern.gather(layer.weight.detach()).requires_grad_(True)

    def step(run: Callable[[], Tensor], weight: Tensor) -> Callable[[], object]:
        return lambda: torch.autograd.grad(run(), (x, weight), grad)

    runs = {
        "dense": step(lambda: linear(x, dense, layer.bias), dense),
        "live": step(lambda: live_linear(x, values, layer.bias, pattern), values),
    }
    with torch.enable_grad():
        timings = interleave(runs, rounds=_ROUNDS, block_ms=0.5)
    gain = timings.speedup("live", over="dense").median
    return LayerTrial(
        dense_ms=timings.median("dense"),
        live_ms=timings.median("live"),
        gain=gain,
        reason=f"{gain:.2f}x" if gain >= MIN_GAIN else f"not faster ({gain:.2f}x)",
    )
