"""What happens to weights along a run: when masks settle, what comes back, what shrinks.

python benchmarks/recipe_dynamics.py            train and write results/recipe_dynamics.json
python benchmarks/recipe_dynamics.py figure     draw docs/research/dynamics.svg from that file

The 1-D CNN on MNIST-1D at 98 % zeros for 20 epochs, as in compare/recipe/mnist1d, whose tuned rates
and knobs are used; three seeds that are none of that comparison's; accuracy on held-out data.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib
import torch
from matplotlib import pyplot
from torch import Tensor, nn

import mirrormask as mm
from mirrormask.methods import method
from mirrormask.optimizer import SparseOptimizer
from mirrormask.study.batches import Batches
from mirrormask.study.data import load
from mirrormask.study.fit import evaluate, fit
from mirrormask.study.models import build_for
from raw_results import HERE

METHODS = ("pilot", "pilot-factors", "pilot-paper", "l1-freeze", "gmp")
SPARSITY, SEEDS = 0.98, (4000, 4001, 4002)
EPOCHS, BATCH_SIZE, WEIGHT_DECAY = 20, 100, 5e-4
RESULT = HERE / "results" / "recipe_dynamics.json"
FIGURE = HERE.parent / "docs" / "research" / "dynamics.svg"


class Watched(Batches):
    """Batches that say when an epoch begins."""

    look: Callable[[], None] = staticmethod(lambda: None)

    def set_epoch(self, epoch: int) -> None:
        """Look at the network as the last epoch left it."""
        self.look()
        super().set_epoch(epoch)


class Diary:
    """Weights, speeds and accuracies at the beginning of each epoch and at the end."""

    def __init__(self, model: nn.Module, optimizer: SparseOptimizer, judge: Any) -> None:
        self.model, self.optimizer, self.judge = model, optimizer, judge
        self.weights: list[Tensor] = []
        self.speeds: list[Tensor] = []
        self.accuracies: list[float] = []
        self.when_cut: list[float] = []

    @torch.no_grad()
    def look(self) -> None:
        """Write one entry."""
        found = list(self.optimizer.weights.values())
        flat = torch.cat([weight.parameter.detach().flatten() for weight in found])
        self.weights.append(flat.clone())
        self.speeds.append(torch.cat([speed_of(weight.latents) for weight in found]))
        self.accuracies.append(evaluate(self.model, self.judge)[0])
        kept = largest(flat, round((1 - SPARSITY) * flat.numel()))
        at = 0
        for weight in found:
            part = slice(at, at + weight.parameter.numel())
            weight.parameter.masked_fill_(~kept[part].view(weight.parameter.shape), 0.0)
            at = part.stop
        self.when_cut.append(evaluate(self.model, self.judge)[0])
        at = 0
        for weight in found:
            part = slice(at, at + weight.parameter.numel())
            weight.parameter.copy_(flat[part].view(weight.parameter.shape))
            at = part.stop


def speed_of(latents: dict[str, Tensor]) -> Tensor:
    """Return by how much each weight moves for a unit of gradient and of learning rate."""
    if "m" in latents:
        return (latents["m"].square() + latents["w"].square()).flatten()
    if "unit" in latents:
        return (1 + (latents["x"] / latents["a"]).square()).sqrt().flatten()
    return torch.ones(latents["x"].numel())


def largest(weights: Tensor, count: int) -> Tensor:
    """Return a mask of so many largest magnitudes."""
    kept = torch.zeros(weights.numel(), dtype=torch.bool)
    kept[weights.abs().topk(count).indices] = True
    return kept


def train(name: str, seed: int) -> dict[str, Any]:
    """Train once and return a list with an entry for each epoch of everything watched."""
    lr, knobs = tuned(name)
    data = load("mnist1d", validation=0.1)
    torch.manual_seed(seed)
    model = build_for("cnn1d", data)
    batches = Watched(*data.train, batch_size=BATCH_SIZE, seed=seed)
    recipe = method(name).with_knobs(knobs)
    decay = WEIGHT_DECAY if recipe.geometry.keeps_weight_decay else 0.0
    base = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=decay)
    steps = EPOCHS * len(batches)
    optimizer = mm.sparsify(base, model, sparsity=SPARSITY, steps=steps, method=recipe, seed=seed)
    diary = Diary(model, optimizer, data.validation)
    batches.look = diary.look
    targets = [weight.parameter for weight in optimizer.weights.values()]
    sizes = {weight.name: weight.parameter.numel() for weight in optimizer.weights.values()}
    result = fit(model, batches, optimizer, epochs=EPOCHS)
    final = torch.cat([parameter.detach().flatten() for parameter in targets])
    survives = final != 0
    count = int(survives.sum())
    assert result.report is not None
    left = {t.name: (t.weights - t.zeros) / sizes[t.name] for t in result.report.tensors}
    was_zero = torch.zeros_like(survives)
    rows = []
    for weights, speeds in zip(diary.weights, diary.speeds, strict=True):
        was_zero |= weights == 0
        rows.append(
            {
                "zeros": float((weights == 0).float().mean()),
                "chosen": float((largest(weights, count) & survives).sum()) / count,
                "size": float(weights[survives].abs().mean() / final[survives].abs().mean()),
                "flipped": float((weights[survives] * final[survives] < 0).float().mean()),
                "speed": float(speeds[survives].mean()),
            }
        )
    return {
        "method": name,
        "seed": seed,
        "lr": lr,
        "knobs": knobs,
        "epochs": rows,
        "accuracy": [*diary.accuracies, evaluate(model, data.validation)[0]],
        "accuracy_when_cut": diary.when_cut,
        "came_back": float((was_zero & survives).sum()) / count,
        "least_left_of_a_layer": min(left.values()),
    }


def tuned(name: str) -> tuple[float, dict[str, float]]:
    """Return the learning rate and the knobs that the comparison found."""
    runs = json.loads((HERE / "compare" / "recipe" / "mnist1d" / "runs.json").read_text())["runs"]
    run = next(
        r for r in runs if (r["phase"], r["method"], r["sparsity"]) == ("final", name, SPARSITY)
    )
    return run["lr"], run["knobs"]


def figure(path: Path) -> None:
    """Draw four of the curves, means over seeds."""
    matplotlib.use("svg")
    runs = json.loads(RESULT.read_text())["runs"]
    matplotlib.rcParams.update({"svg.hashsalt": "mirrormask", "font.size": 9})
    shown = {
        "chosen": "final mask among the largest now",
        "zeros": "exact zeros",
        "size": "survivors' size over the final",
        "speed": "step for a unit of gradient",
    }
    drawing, axes = pyplot.subplots(1, 4, figsize=(12, 2.9), layout="constrained")
    for axis, (key, title) in zip(axes, shown.items(), strict=True):
        for name in METHODS:
            mine = [run["epochs"] for run in runs if run["method"] == name]
            curve = [mean(rows[e][key] for rows in mine) for e in range(EPOCHS)]
            axis.plot(range(EPOCHS), curve, label=name)
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_yscale("log")
    axes[0].legend(frameon=False, fontsize=7)
    path.parent.mkdir(exist_ok=True)
    drawing.savefig(path, metadata={"Date": None})


def main() -> None:
    """Train all methods and write what was watched."""
    runs = []
    for name in METHODS:
        for seed in SEEDS:
            runs.append(train(name, seed))
            run = runs[-1]
            print(name, seed, run["accuracy"][-1], run["came_back"], run["least_left_of_a_layer"])
    setting = {"sparsity": SPARSITY, "epochs": EPOCHS, "batch_size": BATCH_SIZE}
    RESULT.write_text(json.dumps({"setting": setting, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    figure(FIGURE) if sys.argv[1:] == ["figure"] else main()
