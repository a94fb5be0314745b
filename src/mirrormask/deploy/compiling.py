"""Make a model with zeros fast where it runs, by measurement; leave it alone where that fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from mirrormask.deploy.arguments import module_of
from mirrormask.deploy.attention import open_attention
from mirrormask.deploy.candidates import (
    forms_of,
    layer_inputs,
    measure_layers,
    refusal,
    sparse_twin,
)
from mirrormask.deploy.dead_channels import remove_dead_channels
from mirrormask.deploy.example_inputs import Inputs, arguments_of, running_on_example
from mirrormask.deploy.fold import fold_batch_norms
from mirrormask.deploy.guard import CompileJob, keep_fastest
from mirrormask.deploy.layouts import fuse_relus, link_layouts
from mirrormask.deploy.model_graph import replace_module, share_copy, trace
from mirrormask.deploy.speed import LayerSpeed, Plan, SpeedReport
from mirrormask.errors import ArgumentError
from mirrormask.kernels import kernel_status


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """How carefully to compile.

    ``tolerance``: largest difference to the dense outputs, over their largest value.
    ``min_sparsity``: layers with a smaller share of zeros are not even timed.
    ``layer_rounds`` and ``net_rounds``: interleaved rounds per layer and for the whole net.
    """

    tolerance: float = 1e-4
    min_sparsity: float = 0.5
    layer_rounds: int = 11
    net_rounds: int = 31

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise ArgumentError(f"tolerance={self.tolerance} must lie between 0 and 1")
        if not 0 <= self.min_sparsity <= 1:
            raise ArgumentError(f"min_sparsity={self.min_sparsity} must lie between 0 and 1")
        if self.layer_rounds < 7 or self.net_rounds < 7:
            raise ArgumentError(
                f"layer_rounds={self.layer_rounds}, net_rounds={self.net_rounds}: give 7 or more"
            )


def compile(
    model: nn.Module,
    example_inputs: Inputs,
    *,
    plan: Plan | None = None,
    options: CompileOptions | None = None,
) -> nn.Module:
    """Return a copy of a model that is as fast as its zeros allow on this machine.

    BatchNorm is folded, channels that sparsity left dead are removed, each layer is timed dense
    against sparse on the input that it really gets, with the present number of threads, and the
    faster is kept. Where every operation of the model has a step for it, the whole net is also
    planned as one program, which runs without Python between its layers; where some have none,
    the regions between them are, each if it runs faster so. The outputs are compared
    with the dense model's, and the whole nets are timed against each other once more: if nothing is
    faster, the copy that comes back is the dense model.

    Args:
        model: A plain model on the CPU; it is not changed.
        example_inputs: A tensor, a tuple of arguments or a mapping of keyword arguments, of the
            batch size to be fast at.
        plan: ``speed_report.plan`` of an earlier call; layers are then not timed again.
        options: Tolerance and care of the measurement.

    Returns:
        A model of the same class in evaluation mode, without gradients, whose attribute
        ``speed_report`` is a :class:`SpeedReport`. Layers that stay dense share their weights
        with the given model: copy that first if you go on training it.

    Raises:
        ArgumentError: The model does not run on the example, is not on the CPU, or does not have
            the layers that the plan names.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU())
        >>> fast = compile(net, torch.randn(1, 64))
        >>> fast.speed_report.layers[0].choice, fast.speed_report.max_error < 1e-4
        ('dense', True)
    """
    options = options or CompileOptions()
    if plan is not None and not isinstance(plan, Plan):
        raise ArgumentError(f"plan={plan!r} is no plan: give speed_report(model).plan")
    job = _start(model, example_inputs)
    if not kernel_status().active:
        job.notes.append(f"without compiled kernels: {kernel_status().reason}")
    if plan is None or plan.rewrite:
        _rewrite(job, options)
    opened = share_copy(job.rewritten)
    open_attention(opened, min_sparsity=options.min_sparsity)
    if job.error(opened) > options.tolerance:
        opened = share_copy(job.rewritten)
    given, _ = layer_inputs(opened, job.inputs, job.keywords)
    if plan is None:
        costs = measure_layers(
            opened,
            given,
            min_sparsity=options.min_sparsity,
            rounds=options.layer_rounds,
        )
        layers = [LayerSpeed.choose(cost) for cost in costs]
    else:
        layers = _planned(opened, given, plan)
        if "kernel" in plan.choices.values() and not kernel_status().active:
            job.notes.append("the plan was made with compiled kernels: torch takes their place")
    plain = share_copy(opened)
    for layer in layers:
        if layer.choice != "dense":
            twin = sparse_twin(opened.get_submodule(layer.name), layer.choice)
            replace_module(opened, layer.name, twin)
    fuse_relus(opened)
    link_layouts(opened)
    worth_it = any(layer.sparsity >= options.min_sparsity for layer in layers)
    return keep_fastest(
        job,
        opened,
        layers,
        tolerance=options.tolerance,
        rounds=options.net_rounds,
        plain=plain if (worth_it if plan is None else plan.part > 0) else None,
        plan=plan,
    )


def speed_report(model: nn.Module) -> SpeedReport:
    """Return the report of a model that :func:`compile` made.

    Raises:
        ArgumentError: The model was not compiled.
    """
    report = getattr(model, "speed_report", None)
    if not isinstance(report, SpeedReport):
        raise ArgumentError("this model carries no speed report: call mirrormask.compile on it")
    return report


def _start(model: nn.Module, example: Inputs) -> CompileJob:
    module_of(model)
    inputs, keywords = arguments_of(example)
    tensors = [*model.parameters(), *model.buffers()]
    for tensor in tensors:
        if tensor.device.type != "cpu":
            raise ArgumentError(f"the model is on {tensor.device}: move it to the CPU first")
    try:
        dense = share_copy(model).eval()
    # Torch's pruning hooks and old weight norm leave weights that no copy can be made of.
    except (RuntimeError, TypeError) as error:
        raise ArgumentError(
            f"the model cannot be copied ({str(error).splitlines()[0][:80]}): make pruning "
            "permanent and remove weight norms first"
        ) from error
    job = CompileJob(
        dense=dense,
        rewritten=dense,
        inputs=inputs,
        keywords=keywords,
        expected=None,
        notes=[],
    )
    with running_on_example():
        job.expected = job.run(dense)
    return job


def _rewrite(job: CompileJob, options: CompileOptions) -> None:
    """Fold norms and remove dead channels in a copy, and keep it if the outputs stay the same."""
    _, ranks = layer_inputs(job.dense, job.inputs, job.keywords)
    rewritten = share_copy(job.dense)
    graph = trace(rewritten)
    if isinstance(graph, str):
        job.notes.append(f"BatchNorm and dead channels are left as they are: {graph}")
        return
    for node in graph.graph.nodes:
        node.meta["ndim"] = ranks.get(str(node.target))
    with torch.no_grad():
        folded, removed = fold_batch_norms(graph), remove_dead_channels(graph)
    if not folded and not removed:
        return
    error = job.error(rewritten)
    if error > options.tolerance:
        job.notes.append(f"folding was undone: outputs would differ by {error:.1e}")
        return
    job.notes.append(f"folded {folded} BatchNorms, removed {removed} dead channels")
    job.rewritten = rewritten


def _planned(model: nn.Module, given: Mapping[str, torch.Tensor], plan: Plan) -> list[LayerSpeed]:
    layers = {name: module for name, module in model.named_modules() if forms_of(module)}
    unknown = sorted(set(plan.choices) - set(layers))
    if unknown:
        raise ArgumentError(
            f"the plan names layers {unknown[:3]}, which the model does not have: "
            "compile again without it"
        )
    found = []
    for name, module in layers.items():
        assert isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
        form = plan.choices.get(name, "dense")
        why_not = refusal(module, given.get(name), 1.0, 0.0)
        if form not in ("dense", "kernel", *forms_of(module)) or (form != "dense" and why_not):
            raise ArgumentError(
                f"the plan gives layer {name!r} the form {form!r}, which it cannot have"
                f"{': ' + why_not if why_not else ''}; compile again without it"
            )
        weight = module.weight
        sparsity = 1.0 - int(torch.count_nonzero(weight)) / max(1, weight.numel())
        found.append(
            LayerSpeed(
                name=name,
                kind=type(module).__name__,
                sparsity=sparsity,
                dense_ms=None,
                sparse_ms=None,
                dense_bytes=weight.numel() * weight.itemsize,
                sparse_bytes=0,
                choice=form,
                reason="as planned",
            )
        )
    return found
