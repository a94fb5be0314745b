"""Go over to live weights in the middle of a run, where the mask is frozen and it pays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mirrormask.deploy.example_inputs import Inputs
from mirrormask.errors import ArgumentError, LifecycleError
from mirrormask.live.compaction import bytes_of, compact, expand
from mirrormask.live.layers import Layer, Product, give_back, product_of, take_over
from mirrormask.live.links import linked_layers
from mirrormask.live.product import LinearProduct
from mirrormask.live.report import LiveLayer, LiveReport
from mirrormask.live.trial import LayerTrial, inputs_of_layers, try_layer, why_not
from mirrormask.optimizer import SparseOptimizer
from mirrormask.optimizer.latent_weight import LatentWeight
from mirrormask.optimizer.timetable import is_settled


class LiveWeights:
    """The layers of a run that train on live weights, and the way back."""

    def __init__(self, optimizer: SparseOptimizer) -> None:
        self._optimizer = optimizer
        self._layers: dict[Layer, tuple[LatentWeight, Product]] = {}
        self._is_whole = False

    def take(self, layer: Layer, weight: LatentWeight, product: Product) -> None:
        """Let a layer go live."""
        self._layers[layer] = weight, product
        self._shrink(layer)

    def link(self) -> None:
        """Let layers that feed each other alone hand on their products as they come."""
        for layer in linked_layers(self._optimizer.model, self._layers.keys()):
            product = self._layers[layer][1]
            assert isinstance(product, LinearProduct)
            product.output_layout = "columns"

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Make all layers plain inside; one whose mask is another afterwards stays so."""
        if self._is_whole:  # one inside another
            yield
            return
        for layer in self._layers:
            self._grow(layer)
        self._is_whole = True
        try:
            yield
        finally:
            self._is_whole = False
            for layer, (weight, product) in list(self._layers.items()):
                cut = weight.cut
                if cut is not None and torch.equal(~cut, product.pattern.kept):
                    self._shrink(layer)
                else:
                    del self._layers[layer]

    def end(self) -> None:
        """Make all layers plain for good."""
        for layer in self._layers:
            self._grow(layer)
        self._layers.clear()

    def _shrink(self, layer: Layer) -> None:
        weight, product = self._layers[layer]
        take_over(layer, product)
        compact(weight, self._optimizer.base, product.pattern)

    def _grow(self, layer: Layer) -> None:
        weight, product = self._layers[layer]
        expand(weight, self._optimizer.base, product.pattern)
        give_back(layer)


def go_live(optimizer: SparseOptimizer, example_inputs: Inputs | None = None) -> LiveReport:
    """Train the rest of a run on live weights, in those layers where that is faster.

    Linear layers and convolutions of one and two dimensions can: forward and both
    backward products touch the live weights only, and weights, latents and the
    buffers of the base optimizer are kept for those alone. The results are those of the masked
    dense run up to rounding. Call it once the mask is frozen: from the last cut on, which for the
    default method is after six tenths of the steps. ``finalize`` leaves a plain model as always;
    state dicts of model and optimizer are those of the dense run, so a resumed run starts dense
    and may go live again.

    Gradient clipping from then on sees the gradients of live weights alone.

    Args:
        optimizer: What :func:`mirrormask.sparsify` returned.
        example_inputs: A tensor, a tuple of arguments or a mapping of keyword arguments, of the
            batch size in training. The model runs on it once, in evaluation mode, and each layer is
            timed both ways on the sizes and in the layout that it gets, without the gradient of its
            input where the model needs none. Without it, every layer that can goes live.

    Returns:
        What was done, with reasons. Other layers, and those that are not faster, stay as they are.

    Raises:
        ArgumentError: ``optimizer`` was not made by ``sparsify``, its geometry or pressure looks
            across coordinates, or the model does not run on the example.
        LifecycleError: The mask may still change, the model is finalised, or it is live already.

    Example:
        >>> import mirrormask as mm
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 8))
        >>> base = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> optimizer = mm.sparsify(base, model, sparsity=0.9, steps=10)
        >>> for step in range(10):
        ...     model(torch.randn(16, 64)).square().mean().backward()
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        ...     if step == 6 and mm.kernels.kernels() is not None:
        ...         report = go_live(optimizer)
        >>> optimizer.finalize().zeros
        8294
    """
    _check(optimizer)
    layers = {
        module.weight: (name, module)
        for name, module in optimizer.model.named_modules()
        if isinstance(module, Layer)
    }
    given = None if example_inputs is None else inputs_of_layers(optimizer.model, example_inputs)
    live, found = LiveWeights(optimizer), []
    for parameter, weight in optimizer.weights.items():
        name, layer = layers.get(parameter, ("", None))
        reason, trial, product = why_not(optimizer.model, layer, weight), LayerTrial(), None
        assert weight.cut is not None
        size, zeros = weight.cut.numel(), int(weight.cut.sum())
        before = bytes_of(weight, optimizer.base)
        if not reason and layer is not None:
            product = product_of(layer, ~weight.cut)
            trial = trial if given is None else try_layer(layer, product, given.get(name))
            reason = trial.reason
            if trial.pays:
                live.take(layer, weight, product)
        goes = product is not None and trial.pays
        found.append(
            LiveLayer(
                name=weight.name,
                sparsity=zeros / max(1, size),
                live=goes,
                reason=reason,
                dense_ms=trial.dense_ms,
                live_ms=trial.live_ms,
                bytes_before=before,
                bytes_after=bytes_of(weight, optimizer.base)
                + (product.bytes if goes and product is not None else 0),
            )
        )
    live.link()
    report = LiveReport(layers=tuple(found))
    optimizer.compacted = live if report.live else None
    return report


def _check(optimizer: SparseOptimizer) -> None:
    if not isinstance(optimizer, SparseOptimizer):
        raise ArgumentError(
            f"optimizer is {type(optimizer).__name__}: give what mirrormask.sparsify returned"
        )
    if optimizer.finalized:
        raise LifecycleError("The model is finalised: there is nothing left to train.")
    if optimizer.compacted is not None:
        raise LifecycleError("This run trains on live weights already.")
    if optimizer.ranks.size > 1:
        raise ArgumentError("Live weights train in one process: leave go_live out on many ranks.")
    if not is_settled(optimizer):
        raise LifecycleError(
            f"After {optimizer.steps_done} of {optimizer.steps} steps the mask of method "
            f"{optimizer.method!r} may still change: call go_live after its last cut."
        )
    if not optimizer.recipe.geometry.separable:
        raise ArgumentError(
            f"The geometry of method {optimizer.method!r} looks across coordinates: its weights "
            "cannot train without those that are cut."
        )
