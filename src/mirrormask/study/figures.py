"""The pictures of the main job's page, each a function from numbers to SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from mirrormask.report import SparsityReport
from mirrormask.study.result import StageResult
from mirrormask.study.svg import DENSE, SPARSE, STYLE, THIRD, svg_text
from mirrormask.study.sweep import Sweep


def accuracy_over_epochs(dense: StageResult, sparse: StageResult) -> str:
    """Draw accuracy on held-out (or training) images after each epoch, for both twins."""
    figure, axes = _one()
    for stage, colour in ((dense, DENSE), (sparse, SPARSE)):
        key = "val_accuracy" if "val_accuracy" in stage.epochs[0] else "train_accuracy"
        epochs = [row["epoch"] for row in stage.epochs]
        axes.plot(
            epochs,
            [100 * row[key] for row in stage.epochs],
            "o-",
            ms=3,
            c=colour,
            label=stage.title,
        )
        axes.set_ylabel("accuracy on held-out images (%)" if key[0] == "v" else "accuracy (%)")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return svg_text(figure, "Accuracy after each epoch, dense and sparse")


def sparsity_by_layer(report: SparsityReport) -> str:
    """Draw the share of zeros in each targeted tensor, and the asked level."""
    figure, axes = _one(height=0.9 + 0.32 * len(report.tensors))
    names = [tensor.name for tensor in report.tensors]
    shares = [100 * tensor.sparsity for tensor in report.tensors]
    axes.barh(names, shares, color=SPARSE, height=0.62)
    for row, tensor in enumerate(report.tensors):
        left = tensor.weights - tensor.zeros
        label = f"{shares[row]:.1f} %, {left:,} left"
        if shares[row] > 40:
            axes.text(shares[row] - 1, row, label, ha="right", va="center", c="white", fontsize=8)
        else:
            axes.text(shares[row] + 1, row, label, va="center", fontsize=8)
    axes.axvline(100 * report.asked, color=THIRD, lw=1, ls="--")
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xlim(0, 100)
    axes.set_xlabel("zeros (%); dashed: asked over all layers")
    return svg_text(figure, "Share of zeros in each layer")


def path_of_pressure(sparse: StageResult) -> str:
    """Draw alpha, the budget A and the scale a over the steps."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 5.2), layout="constrained")
        upper, middle, lower = figure.subplots(3, 1, sharex=True)
    steps = [row[0] for row in sparse.pressure]
    upper.plot(steps, [row[1] for row in sparse.pressure], c=SPARSE)
    upper.set_ylabel("strength α")
    middle.plot(steps, [row[2] for row in sparse.pressure], c=SPARSE)
    middle.set_ylabel("budget A")
    per_epoch = (steps[-1] + 1) / len(sparse.epochs)
    scales = [row.get("scale", float("nan")) for row in sparse.epochs]
    ends = [row["epoch"] * per_epoch for row in sparse.epochs]
    finite = [(x, y) for x, y in zip(ends, scales, strict=True) if np.isfinite(y) and y > 0]
    if finite:
        lower.semilogy(*zip(*finite, strict=True), "o-", ms=3, c=SPARSE)
    else:
        lower.text(0.5, 0.5, "no mirror in this geometry", transform=lower.transAxes, ha="center")
    lower.set_ylabel("scale a (median)")
    lower.set_xlabel("optimizer step")
    return svg_text(figure, "Path of the strength alpha, the budget A and the scale a")


def histogram(models: Mapping[str, Sequence[Tensor]]) -> str:
    """Draw the distribution of log10 |x| over the weights that are not zero."""
    figure, axes = _one()
    for (name, tensors), colour in zip(models.items(), (DENSE, SPARSE), strict=False):
        flat = np.concatenate([t.detach().abs().flatten().numpy() for t in tensors])
        live = flat[flat > 0]
        logs = np.log10(np.maximum(live, 1e-8))
        label = f"{name}: {len(live):,} of {len(flat):,} not zero"
        axes.hist(logs, bins=80, range=(-8, 1), color=colour, alpha=0.6, label=label)
    axes.set_yscale("log")
    axes.set_xlabel("log10 |x|")
    axes.set_ylabel("weights")
    axes.legend(frameon=False)
    return svg_text(figure, "Histogram of the magnitudes of weights that are not zero")


def accuracy_over_sparsity(sweeps: Mapping[str, Sweep], asked: float) -> str:
    """Draw what each finished network keeps when it is cut at other levels."""
    figure, axes = _one()
    for (name, found), colour in zip(sweeps.items(), (DENSE, SPARSE), strict=False):
        places = range(len(found.levels))
        axes.plot(places, [100 * a for a in found.accuracies], "o-", ms=4, c=colour, label=name)
        axes.set_xticks(list(places), [f"{100 * level:g}" for level in found.levels])
        if asked in found.levels:
            axes.axvline(found.levels.index(asked), color=THIRD, lw=1, ls="--")
    axes.set_xlabel("zeros after a further cut, without training (%)")
    axes.set_ylabel("accuracy on held-out images (%)")
    axes.legend(frameon=False)
    return svg_text(figure, "Accuracy when cut at other levels")


def _one(height: float = 3.4) -> tuple[Figure, Axes]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, height), layout="constrained")
        return figure, figure.subplots()
