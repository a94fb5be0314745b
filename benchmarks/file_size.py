"""Bytes of packed files against dense fp32 safetensors, lossless and lossy.

The model is an MLP 1024-4096-1024 (8.4 M weights) with random masks, and with masks that training
made: an autoencoder of Fashion-MNIST padded to 32x32, cut by magnitude, trained on with the mask.
Run: python benchmarks/file_size.py
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torch.nn.functional import mse_loss, pad

from mirrormask.deploy import load, save
from mirrormask.deploy.manifest import VALUE_KINDS
from mirrormask.deploy.timing import machine
from mirrormask.study.fashion import read_subset

LEVELS = (0.0, 0.5, 0.9, 0.95, 0.99)
STEPS, STEPS_AFTER_CUT, BATCH = 120, 40, 128
RESULT = Path(__file__).parent / "results" / "file_size.json"


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 1024))


def weights_of(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.ndim == 2]


def random_masks(level: float) -> nn.Module:
    torch.manual_seed(0)
    model = mlp()
    with torch.no_grad():
        for weight in weights_of(model):
            weight.masked_fill_(torch.rand_like(weight) < level, 0.0)
    return model


def fit(model: nn.Module, images: torch.Tensor, steps: int, masks: list[torch.Tensor]) -> float:
    """Train a while; weights under a mask stay zero."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss = torch.tensor(0.0)
    for _ in range(steps):
        batch = images[torch.randint(len(images), (BATCH,))]
        loss = mse_loss(model(batch), batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for weight, mask in zip(weights_of(model), masks, strict=False):
                weight.masked_fill_(mask, 0.0)
    return float(loss.detach())


def trained_masks() -> dict[float, nn.Module]:
    torch.manual_seed(0)
    pixels = torch.from_numpy(read_subset().train_images).reshape(-1, 28, 28).float() / 255
    images = pad(pixels, (2, 2, 2, 2)).flatten(1)
    base = mlp()
    print(f"autoencoder: loss {fit(base, images, STEPS, []):.4f} dense", flush=True)
    found: dict[float, nn.Module] = {}
    for level in LEVELS[2:]:
        model = mlp()
        model.load_state_dict(base.state_dict())
        magnitudes = torch.cat([weight.detach().abs().flatten() for weight in weights_of(model)])
        cut = magnitudes.kthvalue(int(level * magnitudes.numel())).values
        masks = [weight.detach().abs() <= cut for weight in weights_of(model)]
        print(f"loss {fit(model, images, STEPS_AFTER_CUT, masks):.4f} at {level:.0%}", flush=True)
        found[level] = model
    return found


def measure(model: nn.Module, masks: str, level: float, folder: Path) -> dict[str, Any]:
    dense = folder / "dense"
    safetensors.torch.save_file(model.state_dict(), dense)
    sizes = {}
    for values in VALUE_KINDS:
        if values != "fp32":
            save(model, folder / values, values=values)
            sizes[values] = (folder / values).stat().st_size
    begin = time.perf_counter()
    state = load(folder / "exact")
    seconds = time.perf_counter() - begin
    exact = all(
        torch.equal(state[name].view(torch.int32), tensor.view(torch.int32))
        for name, tensor in model.state_dict().items()
    )
    size = dense.stat().st_size
    row = {
        "masks": masks,
        "sparsity": level,
        "dense_bytes": size,
        "packed_bytes": sizes,
        "ratio": {name: size / packed for name, packed in sizes.items()},
        "bit_exact": exact,
        "load_seconds": seconds,
    }
    ratios = ", ".join(f"{name} {size / packed:.2f}x" for name, packed in sizes.items())
    print(f"{masks:8} {level:4.0%} {ratios}, bit-exact {exact}, load {seconds:.3f} s", flush=True)
    return row


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [measure(random_masks(level), "random", level, folder) for level in LEVELS]
        rows += [
            measure(model, "trained", level, folder) for level, model in trained_masks().items()
        ]
    RESULT.write_text(json.dumps({"rows": rows, "machine": machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
