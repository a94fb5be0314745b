"""Which layers could run sparsely, in which forms, and what each form costs on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import nn

from mirrormask.deploy.conv_operator import CONV_FORMS
from mirrormask.deploy.csr import CSR_DTYPES, CsrModule
from mirrormask.deploy.kernel_linear import kernels_for
from mirrormask.deploy.model_graph import has_hooks
from mirrormask.deploy.sparse_conv import SparseConv1d, SparseConv2d
from mirrormask.deploy.sparse_linear import SparseLinear
from mirrormask.deploy.timing import Timings, interleave

Form = Literal["dense", "kernel", "csr", "shifts", "columns"]
Layer = nn.Linear | nn.Conv1d | nn.Conv2d
_FORMS: dict[type[nn.Module], tuple[Form, ...]] = {
    nn.Linear: ("kernel", "csr"),
    nn.Conv1d: ("kernel", "shifts", "columns"),
    nn.Conv2d: ("kernel", "shifts", "columns"),
}


@dataclass(frozen=True, kw_only=True)
class LayerCosts:
    """Timings of one layer on the input that it really gets; ``forms`` are those that were tried.

    ``bytes_of`` has the bytes that each keeps, blocks and offsets included. ``reason`` says why
    nothing was tried, where that is so.
    """

    name: str
    kind: str
    sparsity: float
    dense_bytes: int
    timings: Timings | None
    bytes_of: Mapping[Form, int]
    reason: str

    def best_form(self) -> Form:
        """Return the sparse form with the smallest median, or dense if none was tried."""
        if self.timings is None:
            return "dense"
        names = [name for name in self.timings.milliseconds if name != "dense"]
        return cast(Form, min(names, key=self.timings.median))


def sparse_twin(layer: nn.Module, form: Form) -> CsrModule:
    """Return the sparse layer that stands for ``layer`` in the given form."""
    if isinstance(layer, nn.Linear):
        linear = SparseLinear.from_linear(layer)
        linear.engine = "kernel" if form == "kernel" else "torch"
        return linear
    assert form in CONV_FORMS
    if isinstance(layer, nn.Conv1d):
        return SparseConv1d.from_conv(layer, form)
    assert isinstance(layer, nn.Conv2d)
    return SparseConv2d.from_conv(layer, form)


def forms_of(layer: nn.Module) -> tuple[Form, ...]:
    """Return the sparse forms that a layer has; none for other kinds of module."""
    forms = _FORMS.get(type(layer), ())
    if not forms:
        return ()
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)
    if kernels_for(layer.weight) is None:
        forms = tuple(form for form in forms if form != "kernel")
    # With one tap only, "shifts" and "columns" are the same product.
    if not isinstance(layer, nn.Linear) and all(size == 1 for size in layer.kernel_size):
        forms = tuple(form for form in forms if form != "columns")
    return forms


def layer_inputs(
    model: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any]
) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """Run the model once and return what each layer was given, and the rank of what it put out."""
    given: dict[str, torch.Tensor] = {}
    ranks: dict[str, int] = {}
    handles = []
    for name, module in model.named_modules():
        if name and next(module.children(), None) is None:
            handles.append(module.register_forward_hook(_recorder(name, given, ranks)))
    try:
        with torch.no_grad():
            model(*inputs, **keywords)
    finally:
        for handle in handles:
            handle.remove()
    return given, ranks


def _recorder(name: str, given: dict[str, torch.Tensor], ranks: dict[str, int]) -> Any:
    def record(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if forms_of(module) and args and isinstance(args[0], torch.Tensor) and name not in given:
            given[name] = args[0].detach().clone()
        if isinstance(output, torch.Tensor):
            ranks[name] = output.ndim

    return record


def measure_layers(
    model: nn.Module, given: Mapping[str, torch.Tensor], *, min_sparsity: float, rounds: int
) -> list[LayerCosts]:
    """Time dense against sparse for every layer that was called with an input in ``given``."""
    costs = []
    known: dict[tuple[object, ...], tuple[Timings, Mapping[Form, int]]] = {}
    for name, module in model.named_modules():
        if not forms_of(module):
            continue
        assert isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
        weight, x = module.weight.detach(), given.get(name)
        sparsity = 1.0 - int(torch.count_nonzero(weight)) / max(1, weight.numel())
        reason = refusal(module, x, sparsity, min_sparsity)
        timings: Timings | None = None
        bytes_of: Mapping[Form, int] = {}
        if not reason:
            assert x is not None
            # Layers of one shape, kind and sparsity cost the same: time one of them.
            key = (*_shape(module), tuple(x.shape), round(sparsity, 2))
            if key not in known:
                known[key] = _time_forms(module, x, rounds)
            timings, bytes_of = known[key]
        costs.append(
            LayerCosts(
                name=name,
                kind=type(module).__name__,
                sparsity=sparsity,
                dense_bytes=weight.numel() * weight.itemsize,
                timings=timings,
                bytes_of=bytes_of,
                reason=reason,
            )
        )
    return costs


def _shape(layer: Layer) -> tuple[object, ...]:
    shape = (type(layer), tuple(layer.weight.shape))
    if isinstance(layer, nn.Linear):
        return shape
    return (*shape, layer.stride, layer.padding, layer.dilation, layer.groups)


def _time_forms(layer: Layer, x: torch.Tensor, rounds: int) -> tuple[Timings, Mapping[Form, int]]:
    twins = {form: sparse_twin(layer, form) for form in forms_of(layer)}
    runs: dict[str, Any] = {form: _runner(twin, x) for form, twin in twins.items()}
    with torch.inference_mode():
        timings = interleave({"dense": _runner(layer, x), **runs}, rounds=rounds, block_ms=1.0)
    return timings, {form: twin.weight_bytes for form, twin in twins.items()}


def _runner(module: nn.Module, x: torch.Tensor) -> Any:
    return lambda: module(x)


def refusal(layer: Layer, x: torch.Tensor | None, sparsity: float, min_sparsity: float) -> str:
    """Return why a layer is not worth timing, or an empty text."""
    if x is None:
        return "not called with this input"
    if has_hooks(layer):
        return "has hooks or parametrizations: make pruning permanent first"
    if layer.weight.dtype not in CSR_DTYPES:
        return f"{layer.weight.dtype} has no sparse product on CPU"
    if sparsity < min_sparsity:
        return f"only {sparsity:.0%} zeros"
    return ""
