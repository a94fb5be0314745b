"""A loop in plain PyTorch with all that loops have, made sparse by two lines.

Gradient accumulation and clipping, bf16 autocast, a schedule, an average of the weights, early
stopping, and checkpoints from which a killed run goes on bit for bit.

    python examples/plain_torch.py
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import mirrormask as mm

EPOCHS, BATCHES, ACCUMULATE, PATIENCE = 10, 32, 2, 3
STEPS = EPOCHS * BATCHES // ACCUMULATE  # optimizer steps, not batches


class Killed(Exception):
    """The run ends here, as if by a signal."""


def points(seed: int, count: int = 1024) -> tuple[Tensor, Tensor]:
    """Points in 20 dimensions, of which three decide the class."""
    x = torch.randn(count, 20, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 3] + x[:, 7] * x[:, 11].sign() > 0).long()


def train(
    folder: Path,
    *,
    base: str = "adamw",
    method: str = "pilot",
    killed_after: int = EPOCHS,
    patience: int = PATIENCE,
) -> tuple[nn.Module, nn.Module, mm.SparsityReport]:
    """Train from the start, or from the checkpoint in the folder if there is one.

    Args:
        folder: Of the checkpoint.
        base: ``"adamw"`` or ``"sgd"``.
        method: Any of ``mirrormask methods``.
        killed_after: Epochs after which the run ends as if by a signal.
        patience: Epochs without progress after which it stops.

    Returns:
        The model, the average of its weights over time, and the report.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 2))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    plain: torch.optim.Optimizer = (
        torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
        if base == "adamw"
        else torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    )
    optimizer = mm.sparsify(plain, model, sparsity=0.9, steps=STEPS, method=method)  # line one
    schedule = OneCycleLR(optimizer, [group["lr"] for group in plain.param_groups], STEPS)
    (x, y), (test_x, test_y) = points(0), points(1)
    epoch, best, waited = 0, float("inf"), 0

    checkpoint = folder / "last.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        for part, state in zip((model, average, optimizer, schedule), saved["parts"], strict=True):
            part.load_state_dict(state)
        epoch, best, waited = saved["epoch"], saved["best"], saved["waited"]
        torch.set_rng_state(saved["random"])

    while epoch < EPOCHS and waited < patience:
        if epoch == killed_after:
            raise Killed
        model.train()
        for index, batch in enumerate(torch.randperm(len(x)).chunk(BATCHES)):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(model(x[batch]), y[batch]) / ACCUMULATE
            loss.backward()
            if index % ACCUMULATE == ACCUMULATE - 1:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                average.update_parameters(model)
        epoch += 1
        model.eval()
        with torch.no_grad():
            held_out = F.cross_entropy(model(test_x), test_y).item()
        if optimizer.at_target:  # what came before was a denser, easier model
            waited = 0 if held_out < best else waited + 1
            best = min(best, held_out)
        parts = [part.state_dict() for part in (model, average, optimizer, schedule)]
        state = {"parts": parts, "epoch": epoch, "best": best, "waited": waited}
        torch.save(state | {"random": torch.get_rng_state()}, checkpoint)

    report = optimizer.finalize()  # line two
    mm.apply_masks(average, optimizer.masks())  # an average alone is dense
    return model, average, report


def main() -> None:
    """Train, with an interruption half-way."""
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(Killed):
            train(Path(folder), killed_after=EPOCHS // 2)
        model, _, report = train(Path(folder))
    x, y = points(1)
    print(report)
    print(f"accuracy {(model(x).argmax(1) == y).float().mean():.3f}")


if __name__ == "__main__":
    main()
