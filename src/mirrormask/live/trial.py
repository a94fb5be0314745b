"""Whether a layer can train on its live weights, and whether that is faster here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mirrormask.deploy.example_inputs import Inputs, arguments_of, running_on_example
from mirrormask.deploy.timing import interleave
from mirrormask.kernels import kernel_status
from mirrormask.live.compaction import can_compact
from mirrormask.live.layers import KINDS, Layer, Product
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


def why_not(model: nn.Module, layer: Layer | None, weight: LatentWeight) -> str:
    """Return why a weight cannot train on what lives of it, or an empty text."""
    if layer is None or type(layer) not in KINDS:
        return "no " + " or ".join(f"nn.{kind.__name__}" for kind in KINDS)
    uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    kind = layer.weight.dtype, layer.weight.device.type
    padding = getattr(layer, "padding_mode", "zeros")
    reasons = {
        f"no compiled kernels: {kernel_status().reason}": not kernel_status().active,
        f"{kind[0]} on {kind[1]}: the kernels take float32 on the CPU": kind
        != (torch.float32, "cpu"),
        f"padding mode {padding!r}: the kernels pad with zeros": padding != "zeros",
        "shared by several layers": uses[id(layer.weight)] > 1,
        "no weight lives": weight.cut is None or bool(weight.cut.all()),
        "its latents are shared by several coordinates": not can_compact(weight),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def inputs_of_layers(model: nn.Module, example: Inputs) -> dict[str, Tensor]:
    """Run the model once, in evaluation mode, and return what each layer got first.

    Only how it looks: tensors on the device ``meta``, laid out as the inputs were, that require a
    gradient if those did.

    Raises:
        ArgumentError: It does not run on the example.
    """
    found: dict[str, Tensor] = {}
    inputs, keywords = arguments_of(example)
    handles = [
        module.register_forward_pre_hook(_recorder(name, found))
        for name, module in model.named_modules()
        if isinstance(module, Layer)
    ]
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        # With gradients, to see which inputs need one.
        with torch.enable_grad(), running_on_example():
            model(*inputs, **keywords)
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True
    return found


def _recorder(name: str, found: dict[str, Tensor]) -> Callable[[nn.Module, Any], None]:
    def record(module: nn.Module, args: Any) -> None:
        if args and isinstance(args[0], Tensor):
            like = torch.empty_like(args[0], device="meta").requires_grad_(args[0].requires_grad)
            found.setdefault(name, like)

    return record


def try_layer(layer: Layer, product: Product, given: Tensor | None) -> LayerTrial:
    """Time a forward and backward pass of a layer both ways; ``given`` None: it was not called."""
    if given is None or 0 in given.shape:
        return LayerTrial(gain=0.0, reason="not called with this input")
    x = torch.empty_like(given, device="cpu").normal_().requires_grad_(given.requires_grad)
    dense = layer.weight.detach().clone().requires_grad_(True)
    values = product.pattern.gather(layer.weight.detach()).requires_grad_(True)

    def step(run: Callable[[], Tensor], weight: Tensor) -> Callable[[], object]:
        wanted = (x, weight) if given.requires_grad else (weight,)
        grad = torch.randn_like(run().detach())
        return lambda: torch.autograd.grad(run(), wanted, grad)

    def plain() -> Tensor:
        if isinstance(layer, nn.Linear):
            return nn.functional.linear(x, dense, layer.bias)
        out: Tensor = layer._conv_forward(x, dense, layer.bias)
        return out

    with torch.enable_grad():
        runs = {
            "dense": step(plain, dense),
            "live": step(lambda: product(x, values, layer.bias), values),
        }
        timings = interleave(runs, rounds=_ROUNDS, block_ms=0.5)
    gain = timings.speedup("live", over="dense").median
    return LayerTrial(
        dense_ms=timings.median("dense"),
        live_ms=timings.median("live"),
        gain=gain,
        reason=f"{gain:.2f}x" if gain >= MIN_GAIN else f"not faster ({gain:.2f}x)",
    )
